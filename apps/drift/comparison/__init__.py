"""What the comparison runs over streams, and how it is measured; `apps.drift.compare` lists the arms."""
