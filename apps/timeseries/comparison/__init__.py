"""What the comparison fits, and how it is measured; `apps.timeseries.compare` lists the arms."""
