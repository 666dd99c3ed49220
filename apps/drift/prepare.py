"""The app's public tables, each made of the file that its origin offers (see data/drift/catalogue.yaml)."""

from io import TextIOWrapper
from pathlib import Path
from zipfile import ZipFile

import pandas as pd
from scipy.io.arff import loadarff

SCHEDULE = ["month", "day", "sched_dep_time"]
"""By these, flights are in the order in which they were to leave."""
FLIGHT = ["month", "day", "dow", "sched_dep_time", "sched_arr_time", "carrier", "flight", "origin", "dest"]
FLIGHT += ["distance", "dep_delay", "arr_delay"]

TERRAIN = ["Elevation", "Aspect", "Slope", "Horizontal_Distance_To_Hydrology"]
TERRAIN += ["Vertical_Distance_To_Hydrology", "Horizontal_Distance_To_Roadways", "Hillshade_9am"]
TERRAIN += ["Hillshade_Noon", "Hillshade_3pm", "Horizontal_Distance_To_Fire_Points"]
GROUND = [*(f"Wilderness_Area{i}" for i in range(1, 5)), *(f"Soil_Type{i}" for i in range(1, 41))]

PERSON = ["age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation"]
PERSON += ["relationship", "race", "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country"]
PERSON += ["income"]

DEFENDANT = ["sex", "age", "age_cat", "race", "juv_fel_count", "juv_misd_count", "juv_other_count"]
DEFENDANT += ["priors_count", "days_b_screening_arrest", "c_charge_degree", "decile_score", "score_text"]
DEFENDANT += ["v_decile_score", "compas_screening_date", "is_recid", "two_year_recid"]
"""No name, no date of birth, no number of a case."""

STUDENT = ["decile1b", "decile3", "lsat", "ugpa", "zfygpa", "zgpa", "fulltime", "fam_inc", "male", "tier"]
STUDENT += ["race", "pass_bar"]


def electricity(origin: Path) -> pd.DataFrame:
    """45,312 half hours of the ARFF file in a zip; the class is 1 where the price goes UP."""
    with ZipFile(origin) as packed:
        largest = max(packed.infolist(), key=lambda member: member.file_size)
        with packed.open(largest) as file:
            table = pd.DataFrame(loadarff(TextIOWrapper(file))[0])
    return table.assign(day=table["day"].astype(int), **{"class": (table["class"] == b"UP").astype(int)})


def nycflights(origin: Path) -> pd.DataFrame:
    """336,776 flights of a CSV file in the order of their schedule; `dow` is the day of the week from 0."""
    table = pd.read_csv(origin, low_memory=False)
    table["dow"] = pd.to_datetime(table[["year", "month", "day"]]).dt.day_of_week
    return table.sort_values(SCHEDULE, kind="stable", ignore_index=True)[FLIGHT]


def covtype(origin: Path) -> pd.DataFrame:
    """92,962 patches of forest of a gzipped CSV file, their measures at single precision."""
    table = pd.read_csv(origin)[[*TERRAIN, *GROUND, "Cover_Type"]]
    return table.astype({**dict.fromkeys(table, "int"), **dict.fromkeys(TERRAIN, "float32")})


def adult(origin: Path) -> pd.DataFrame:
    """48,842 people of two files in a zip; `split` tells of which."""
    parts = []
    with ZipFile(origin) as packed:
        for name, split, head in (("adult.data", "train", 0), ("adult.test", "test", 1)):
            with packed.open(name) as file:
                part = pd.read_csv(file, names=PERSON, skiprows=head, skipinitialspace=True)
            parts.append(part.assign(split=split))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(income=table["income"].str.rstrip("."))


def compas(origin: Path) -> pd.DataFrame:
    """7,214 defendants of a CSV file."""
    return pd.read_csv(origin)[DEFENDANT]


def law_school(origin: Path) -> pd.DataFrame:
    """20,798 students of a CSV file."""
    return pd.read_csv(origin)[STUDENT]


def dutch_census(origin: Path) -> pd.DataFrame:
    """60,420 people of a CSV file."""
    return pd.read_csv(origin)
