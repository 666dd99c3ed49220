"""The tables of public sets are made of the formats in which their origins offer them."""

from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd

from apps.drift import prepare

ELECTRICITY = """@relation electricity
@attribute date numeric
@attribute day {1,2,3,4,5,6,7}
@attribute nswprice numeric
@attribute class {UP,DOWN}
@data
0,2,0.056443,UP
0.5,7,0.051699,DOWN
"""
FLIGHTS = """rownames,year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,\
carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour
1,2013,2,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-02-01T10:00:00Z
2,2013,1,1,533,529,4,850,830,20,UA,1714,N24211,LGA,IAH,227,1416,5,29,2013-01-01T10:00:00Z
3,2013,1,1,,529,,,850,,AA,1141,,JFK,MIA,,1089,5,40,2013-01-01T10:00:00Z
4,2013,1,1,500,5,-5,600,700,-60,B6,7,N1,JFK,BQN,183,1576,0,5,2013-01-01T05:00:00Z
"""
ADULT = (
    "39, State-gov, 77516, Bachelors, 13, Single, Sales, Own-child, White, Male, 2174, 0, 40, ?, {income}\n"
)


def test_electricity_is_the_arff_file_of_a_zip(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "e.arff.zip", "w") as packed:
        packed.writestr("__MACOSX/._elecNormNew.arff", "x")
        packed.writestr("elecNormNew.arff", ELECTRICITY)
    table = prepare.electricity(tmp_path / "e.arff.zip")
    expected = {"date": [0.0, 0.5], "day": [2, 7], "nswprice": [0.056443, 0.051699], "class": [1, 0]}
    pd.testing.assert_frame_equal(table, pd.DataFrame(expected))


def test_flights_are_in_the_order_of_their_schedule(tmp_path: Path) -> None:
    (tmp_path / "flights.csv").write_text(FLIGHTS)
    table = prepare.nycflights(tmp_path / "flights.csv")
    assert list(table) == prepare.FLIGHT
    assert table["flight"].tolist() == [7, 1714, 1141, 1545]
    assert table["dow"].tolist() == [1, 1, 1, 4]  # a Tuesday, and a Friday
    np.testing.assert_array_equal(table["arr_delay"], [-60, 20, np.nan, 11])


def test_patches_of_forest_have_their_columns_by_name(tmp_path: Path) -> None:
    names = [*prepare.TERRAIN, *prepare.GROUND, "Cover_Type"]
    values = pd.DataFrame([[0.1234567890123] * 10 + [1.0] * 44 + [7]], columns=names)
    values[names[::-1]].to_csv(tmp_path / "test.csv.gz")
    table = prepare.covtype(tmp_path / "test.csv.gz")
    assert list(table) == names
    assert table["Aspect"].tolist() == [np.float32(0.1234567890123)]
    assert table.drop(columns=prepare.TERRAIN).to_numpy().tolist() == [[1] * 44 + [7]]
    assert set(table.drop(columns=prepare.TERRAIN).dtypes) == {np.dtype(int)}


def test_adults_are_of_two_files_with_one_spelling_of_the_label(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "adult.zip", "w") as packed:
        packed.writestr("adult.test", "|1x3 Cross validator\n" + ADULT.format(income=">50K."))
        packed.writestr("adult.data", ADULT.format(income="<=50K") * 2 + "\n")
    table = prepare.adult(tmp_path / "adult.zip")
    assert table["split"].tolist() == ["train", "train", "test"]
    assert table["income"].tolist() == ["<=50K", "<=50K", ">50K"]
    assert table["workclass"].tolist() == ["State-gov"] * 3
    assert table["native_country"].tolist() == ["?"] * 3


def test_nobody_is_named(tmp_path: Path) -> None:
    known = [*reversed(prepare.DEFENDANT), "name", "dob", "c_case_number"]
    pd.DataFrame([["x"] * len(known)], columns=known).to_csv(tmp_path / "compas.csv", index=False)
    assert list(prepare.compas(tmp_path / "compas.csv")) == prepare.DEFENDANT
