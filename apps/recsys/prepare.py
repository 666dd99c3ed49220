"""The app's public tables, each made of the archive that its origin offers (data/recsys/catalogue.yaml)."""

import gzip
import io
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import pandas as pd

LOG = ["user_id", "video_id", "date", "hourmin", "time_ms", "tab", "duration_ms", "play_time_ms"]
LOG += ["profile_stay_time", "comment_stay_time", "is_click", "is_like", "is_follow", "is_comment"]
LOG += ["is_forward", "is_hate", "long_view", "is_profile_enter"]
ORDER = ["user_id", "video_id", "date", "hourmin", "time_ms", "tab", "author_id", "tag", "duration_ms"]
ORDER += ["play_time_ms", "profile_stay_time", "comment_stay_time", "is_click", "is_like", "is_follow"]
ORDER += ["is_comment", "is_forward", "is_hate", "long_view", "is_profile_enter"]
FIRST_DAY = 20220425
NAMELESS = "unkonwn"
"""How RecBole, whose table this is to be, spells the title and the year of the film without a name."""

PERSON = ["age", "class_of_worker", "industry_code", "occupation_code", "education", "wage_per_hour"]
PERSON += ["enrolled_in_edu_inst_last_wk", "marital_status", "major_industry_code", "major_occupation_code"]
PERSON += ["race", "hispanic_origin", "sex", "member_of_labor_union", "reason_for_unemployment"]
PERSON += ["full_or_part_time_employment", "capital_gains", "capital_losses", "dividends_from_stocks"]
PERSON += ["tax_filer_status", "region_prev_residence", "state_prev_residence", "household_family_stat"]
PERSON += ["household_summary", "instance_weight", "migration_msa", "migration_reg", "migration_within_reg"]
PERSON += ["live_in_house_1yr_ago", "migration_prev_sunbelt", "num_persons_worked_for_employer"]
PERSON += ["family_members_under_18", "country_father", "country_mother", "country_self", "citizenship"]
PERSON += ["own_business_or_self_employed", "veterans_questionnaire", "veterans_benefits"]
PERSON += ["weeks_worked_in_year", "year", "income"]
"""After the UCI data dictionary: the files have no header."""

GENRES = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
]
GENRES += ["Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War"]
GENRES += ["Western"]


def kuairand(origin: Path) -> pd.DataFrame:
    """228,329 impressions from 25 April on, with author and tag of each video, in order of time."""
    log = _of_tar(origin, "log_standard_4_22_to_5_08_pure.csv")[LOG]
    videos = _of_tar(origin, "video_features_basic_pure.csv")[["video_id", "author_id", "tag"]]
    table = log[log["date"] >= FIRST_DAY].merge(videos, on="video_id", how="left")
    table["tag"] = table["tag"].fillna("unknown")
    return table.sort_values("time_ms", kind="stable", ignore_index=True)[ORDER]


def kuairand_users(origin: Path) -> pd.DataFrame:
    """25,156 users, those of the log."""
    users = _of_tar(origin, "user_features_pure.csv")
    return users[users["user_id"].isin(kuairand(origin)["user_id"])].reset_index(drop=True)


def kuairand_videos(origin: Path) -> pd.DataFrame:
    """7,583 videos."""
    return _of_tar(origin, "video_features_basic_pure.csv")


def census(origin: Path) -> pd.DataFrame:
    """199,523 people of census-income.data."""
    return _people(origin, "census-income.data")


def census_test(origin: Path) -> pd.DataFrame:
    """99,762 people of census-income.test."""
    return _people(origin, "census-income.test")


def ml100k(origin: Path) -> pd.DataFrame:
    """100,000 ratings of u.data, in order of time."""
    table = _of_zip(origin, "u.data", "\t", ["user_id", "item_id", "rating", "timestamp"])
    return table.sort_values("timestamp", kind="stable", ignore_index=True)


def ml100k_users(origin: Path) -> pd.DataFrame:
    """943 people of u.user."""
    return _of_zip(origin, "u.user", "|", ["user_id", "age", "gender", "occupation", "zip_code"])


def ml100k_items(origin: Path) -> pd.DataFrame:
    """1,682 films of u.item: title, year of release, and genres as tags."""
    names = ["item_id", "title", "released", "video", "url", *GENRES]
    films = _of_zip(origin, "u.item", "|", names)
    told = films["title"].map(lambda title: re.match(r"(.*?)\s*\(([^()]*)\)\s*$", str(title)))
    genres = [" ".join(name for name in GENRES if row[name]) for row in films[GENRES].to_dict("records")]
    return pd.DataFrame(
        {
            "item_id": films["item_id"],
            "movie_title": [found[1] if found else NAMELESS for found in told],
            "release_year": [found[2] if found else NAMELESS for found in told],
            "class": genres,
        }
    )


def _of_tar(origin: Path, name: str) -> pd.DataFrame:
    with tarfile.open(origin) as packed:
        members = [member for member in packed.getmembers() if member.name.endswith(f"/{name}")]
        file = packed.extractfile(members[0]) if members else None
        if file is None:
            raise KeyError(name)
        return pd.read_csv(file, low_memory=False)


def _of_zip(origin: Path, name: str, separator: str, names: Sequence[str]) -> pd.DataFrame:
    with ZipFile(origin) as packed:
        found = next(member for member in packed.namelist() if Path(member).name == name)
        with packed.open(found) as file:
            return pd.read_csv(file, sep=separator, header=None, names=list(names), encoding="latin-1")


def _people(origin: Path, name: str) -> pd.DataFrame:
    """A file of the archive, which may be packed once more, with cells as they are but for blanks around."""
    with ZipFile(origin) as packed:
        found = next(member for member in packed.namelist() if Path(member).name.removesuffix(".gz") == name)
        content = packed.read(found)
    text = gzip.decompress(content) if found.endswith(".gz") else content
    table = pd.read_csv(
        io.BytesIO(text), header=None, names=PERSON, skipinitialspace=True, keep_default_na=False
    )
    weight = table["instance_weight"].astype("float32")
    return table.assign(income=table["income"].str.rstrip("."), instance_weight=weight)
