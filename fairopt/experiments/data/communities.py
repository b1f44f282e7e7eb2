"""1,994 US communities: the rate of violent crimes a head (regression, scaled to [0, 1] by the publisher).

Source: M. Redmond (2009), Communities and Crime, UCI Machine Learning Repository, doi 10.24432/C53W3X (CC BY 4.0).

Attributes: ``black_share``, the share of Black residents on the publisher's scale of [0, 1] (continuous), and ``black``, whether that
share is above 0.06 ("above", "below"), the cut of the literature. Left out of the features: names and numbers of places, the publisher's
folds, the 22 columns about the police that are 84 % gaps, and the four shares of races.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from fairopt.experiments.data.files import Source, pandas, read
from fairopt.experiments.data.frames import dataset
from fairopt.experiments.data.tabular import Dataset

SOURCE = Source(
    "communities_crime",
    "communities.data",
    ("d90d85bd66bad9a00fa0ed6c15ac017b5966d528e55ba2940ad028d071353f95",),
    'curl -L -o communities.zip "https://archive.ics.uci.edu/static/public/183/communities+and+crime.zip" '
    "&& unzip communities.zip communities.data",
)
CUT = 0.06
TARGET = "ViolentCrimesPerPop"
PLACES = ("state", "county", "community", "communityname", "fold")
SHARES = ("racepctblack", "racePctWhite", "racePctAsian", "racePctHisp")
COLUMNS = (
    "state", "county", "community", "communityname", "fold", "population", "householdsize", "racepctblack", "racePctWhite",
    "racePctAsian", "racePctHisp", "agePct12t21", "agePct12t29", "agePct16t24", "agePct65up", "numbUrban", "pctUrban", "medIncome",
    "pctWWage", "pctWFarmSelf", "pctWInvInc", "pctWSocSec", "pctWPubAsst", "pctWRetire", "medFamInc", "perCapInc", "whitePerCap",
    "blackPerCap", "indianPerCap", "AsianPerCap", "OtherPerCap", "HispPerCap", "NumUnderPov", "PctPopUnderPov", "PctLess9thGrade",
    "PctNotHSGrad", "PctBSorMore", "PctUnemployed", "PctEmploy", "PctEmplManu", "PctEmplProfServ", "PctOccupManu",
    "PctOccupMgmtProf", "MalePctDivorce", "MalePctNevMarr", "FemalePctDiv", "TotalPctDiv", "PersPerFam", "PctFam2Par",
    "PctKids2Par", "PctYoungKids2Par", "PctTeen2Par", "PctWorkMomYoungKids", "PctWorkMom", "NumIlleg", "PctIlleg", "NumImmig",
    "PctImmigRecent", "PctImmigRec5", "PctImmigRec8", "PctImmigRec10", "PctRecentImmig", "PctRecImmig5", "PctRecImmig8",
    "PctRecImmig10", "PctSpeakEnglOnly", "PctNotSpeakEnglWell", "PctLargHouseFam", "PctLargHouseOccup", "PersPerOccupHous",
    "PersPerOwnOccHous", "PersPerRentOccHous", "PctPersOwnOccup", "PctPersDenseHous", "PctHousLess3BR", "MedNumBR", "HousVacant",
    "PctHousOccup", "PctHousOwnOcc", "PctVacantBoarded", "PctVacMore6Mos", "MedYrHousBuilt", "PctHousNoPhone", "PctWOFullPlumb",
    "OwnOccLowQuart", "OwnOccMedVal", "OwnOccHiQuart", "RentLowQ", "RentMedian", "RentHighQ", "MedRent", "MedRentPctHousInc",
    "MedOwnCostPctInc", "MedOwnCostPctIncNoMtg", "NumInShelters", "NumStreet", "PctForeignBorn", "PctBornSameState",
    "PctSameHouse85", "PctSameCity85", "PctSameState85", "LemasSwornFT", "LemasSwFTPerPop", "LemasSwFTFieldOps",
    "LemasSwFTFieldPerPop", "LemasTotalReq", "LemasTotReqPerPop", "PolicReqPerOffic", "PolicPerPop", "RacialMatchCommPol",
    "PctPolicWhite", "PctPolicBlack", "PctPolicHisp", "PctPolicAsian", "PctPolicMinor", "OfficAssgnDrugUnits", "NumKindsDrugsSeiz",
    "PolicAveOTWorked", "LandArea", "PopDens", "PctUsePubTrans", "PolicCars", "PolicOperBudg", "LemasPctPolicOnPatr",
    "LemasGangUnitDeploy", "LemasPctOfficDrugUn", "PolicBudgPerPop", "ViolentCrimesPerPop",
)  # fmt: skip
MOST_GAPS = 0.5  # a column with more gaps than this is left out: the 22 about the police


def load(path: Path | None = None, *, with_sensitive: bool = False) -> Dataset:
    """All rows in file order."""
    table = pandas().read_csv(io.BytesIO(read(SOURCE, path)), header=None, names=list(COLUMNS), na_values="?")
    gaps = table.isna().mean()
    features = table.drop(columns=[*PLACES, *SHARES, TARGET, *gaps.index[gaps > MOST_GAPS].difference(PLACES)])
    share = table["racepctblack"].to_numpy(dtype=np.float64)
    return dataset(
        "communities",
        features,
        table[TARGET].to_numpy(),
        {"black": np.where(share > CUT, "above", "below"), "black_share": share},
        task="regression",
        with_sensitive=with_sensitive,
    )
