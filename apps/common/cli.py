"""Lightning's command line for an app, with one folder a run."""

import shlex
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from collegium.routers import RouteError
from jsonargparse import ArgumentError
from lightning import Callback, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only
from torch import distributed

from apps.common.callbacks import Annealing, EpochLines, RoutingMonitor, SeedEachStep
from apps.common.checkpoints import BestCheckpoint, LastCheckpoint, Stamp
from apps.common.discovery import app_module
from apps.common.errors import UserError
from apps.common.expert_parallel import whole
from apps.common.metrics_file import MetricsFile
from apps.common.mistakes import explain, keys, refused
from apps.common.opening import Events, Opening
from apps.common.run_report import write_run_report
from apps.common.runs import Run, held, load_checkpoint, new_run, runs_root

COMMANDS = ("fit", "validate", "test")


class AppCLI(LightningCLI):
    """Runs one command of one app at once.

    Args:
        app: name of the app.
        config: name of the configuration; it names the parent folder of a new run.
        args: the command and its options.
        run: the run to go on with (fit) or to measure (validate, test); by default a new one.
        checkpoint: where to begin; by default where `run` stands.

    Raises:
        UserError: options that do not fit, a setting that a class refuses, a checkpoint that cannot be used.
    """

    def __init__(
        self, app: str, config: str, args: list[str], run: Run | None = None, checkpoint: Path | None = None
    ) -> None:
        self.app, self.config_name, self.run, self.given = app, config, run, args
        self.resumed = run is not None and args[0] == "fit"
        self.created = self.in_folder = False
        self.holding = ExitStack()
        self.start = checkpoint
        if run and not checkpoint:
            self.start = (run.last if run.has_checkpoint else None) if self.resumed else run.best
        loaded = load_checkpoint(self.start, app) if self.start else {}
        self.step: int = loaded.get("global_step", 0)
        self.logged_steps: int = loaded.get("callbacks", {}).get("LastCheckpoint", {}).get("logged_steps", 0)
        settings = {"exit_on_error": False, "allow_abbrev": False}
        super().__init__(
            app_module(app, "task").Task,
            app_module(app, "data").Data,
            args=args,
            save_config_callback=None,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            trainer_defaults={"enable_model_summary": False},
            parser_kwargs={**settings, **dict.fromkeys(COMMANDS, settings)},
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's commands but predict, which is a function of each app."""
        return {command: LightningCLI.subcommands()[command] for command in COMMANDS}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Make the two checkpoints part of the configuration."""
        parser.add_lightning_class_args(BestCheckpoint, "best_checkpoint")
        parser.add_lightning_class_args(LastCheckpoint, "last_checkpoint")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Read the options of the command."""
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            raise explain(str(error), keys(self._parser(args[0])), args) from error

    def instantiate_classes(self) -> None:
        """Build data, model and trainer; what a class refuses is the configuration's fault."""
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, MisconfigurationException) as error:
            if isinstance(error, TypeError) and "abstract class" not in str(error):
                raise
            self._discard()
            self.holding.close()
            raise refused(error, self.given) from error
        if self.start:
            self.config_init[self.subcommand]["ckpt_path"] = str(self.start)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer; for a real training, inside its run folder."""
        own = self._get(self.config_init, "trainer")
        logged = own["enable_progress_bar"] is None and not sys.stdout.isatty()
        if logged:
            kwargs["enable_progress_bar"] = False
        if self.subcommand != "fit" or own["fast_dev_run"]:
            return super().instantiate_trainer(logger=False, **kwargs)
        folder = self._take_folder()
        metrics = MetricsFile(folder / "metrics.csv")
        opening = Opening(folder, self._config_text(), metrics, self.logged_steps if self.resumed else None)
        lines = [EpochLines()] if logged else []
        return super().instantiate_trainer(
            logger=[metrics, Events(folder, self.step if self.resumed else 0), *_listed(own["logger"])],
            callbacks=[opening, *lines, *_listed(own["callbacks"]), *self._callbacks(folder)],
            default_root_dir=str(folder),
            **kwargs,
        )

    def _take_folder(self) -> Path:
        if rank_zero_only.rank:  # type: ignore[attr-defined]
            return runs_root() / self.app  # only rank zero writes
        if self.run is None:
            self.run = Run(new_run(self.app, self.config_name), self.app)
            self.created = True
        self.holding.enter_context(held(self.run))
        self.in_folder = True
        return self.run.path

    def _callbacks(self, folder: Path) -> list[Callback]:
        seed = int(self._get(self.config, "seed_everything"))
        return [SeedEachStep(seed), Annealing(), RoutingMonitor(folder), Stamp(self.app, self.config_name)]

    def _run_subcommand(self, subcommand: str) -> None:
        """Run the command; a router that gives no routing is the configuration's fault."""
        try:
            super()._run_subcommand(subcommand)
        except RouteError as error:
            raise UserError(f"model.network: {error}.") from error

    def fit(self, **kwargs: Any) -> None:
        """Train, and write the report; leave no folder behind for a run that never took a step."""
        with self.holding:
            try:
                if self.resumed and self.run and not self.start:
                    print(f"{self.run.path} has no checkpoint yet: it starts anew.", flush=True)
                self.trainer.fit(**kwargs)
                if self.resumed and self.run and self.trainer.global_step == self.step > 0:
                    print(f"{self.run.path} was complete: raise --trainer.max_epochs to train it further.")
                _leave_group()
                if self.run and self.in_folder:
                    task = whole(self.model, self.run.best)
                    print(f"Report: {write_run_report(self.run, task, self.datamodule)}")
            except Exception:
                self._discard()
                raise
            except BaseException:  # Ctrl-C
                self._discard()
                self._tell_how_to_go_on()
                raise

    def _tell_how_to_go_on(self) -> None:
        """After Ctrl-C, where training stood."""
        if not self.trainer.interrupted or not self.run:
            return
        if not self.run.path.exists():
            print("Interrupted before the first step: nothing was kept.", flush=True)
            return
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        command = f"make train APP={self.app} RESUME=1 RUN={self.run.path}"
        step = next(c.saved_step for c in callbacks if isinstance(c, LastCheckpoint))
        told = f"saved at step {step}" if step else "nothing saved yet"
        print(f"Interrupted at step {self.trainer.global_step}, {told}; go on with `{command}`.", flush=True)

    def _config_text(self) -> str:
        """Return the resolved configuration, under the command that the run began with."""
        command = "# " + shlex.join(["python", "-m", "apps", self.app, *self.given])
        if self.resumed and self.run:
            command = self.run.config_file.read_text(encoding="utf-8").partition("\n")[0]
        options = self.config.fit.clone()
        options.ckpt_path = None
        return f"{command}\n{self._parser('fit').dump(options, skip_none=False)}"

    def _discard(self) -> None:
        started = hasattr(self, "trainer") and self.trainer.global_step > 0
        if self.created and self.run and not started:
            shutil.rmtree(self.run.path)


def _leave_group() -> None:
    """After training with several processes: the first goes on alone, and must not wait for the others."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _listed(value: Any) -> list[Any]:
    if value is None or isinstance(value, bool):
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
