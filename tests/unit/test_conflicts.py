"""What another process wrote at the same time is tried again; what is wrong is refused at once."""

import sqlite3

import pytest
import sqlalchemy
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INVALID_PARAMETER_VALUE, RESOURCE_ALREADY_EXISTS

from darkroom.tracking.mlflow.conflicts import PAUSES_SECONDS, again_on_conflict

ENGINE = sqlalchemy.create_engine("sqlite://")


def from_database(statement: str) -> MlflowException:
    """Returns MLflow's error for a statement that fails, as its session reports it."""
    with ENGINE.connect() as connection:
        connection.execute(sqlalchemy.text("create table if not exists tags (key text primary key)"))
        connection.execute(sqlalchemy.text("insert or ignore into tags values ('a')"))
        with pytest.raises(sqlalchemy.exc.SQLAlchemyError) as caught:
            connection.execute(sqlalchemy.text(statement))
    return MlflowException(message=caught.value, error_code=BAD_REQUEST)


class Fails:
    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.times, self.calls = error, times, 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return self.calls


CONFLICTS = [
    from_database("insert into tags values ('a')"),
    MlflowException("Experiment(name=a) already exists.", error_code=RESOURCE_ALREADY_EXISTS),
]


@pytest.mark.parametrize("error", CONFLICTS, ids=["row", "experiment"])
def test_a_conflict_is_tried_again(error: Exception) -> None:
    assert again_on_conflict(Fails(error, times=1)) == 2


@pytest.mark.parametrize("error", CONFLICTS[:1], ids=["row"])
def test_a_conflict_that_lasts_is_reported(error: Exception) -> None:
    action = Fails(error, times=99)
    with pytest.raises(MlflowException, match="UNIQUE constraint failed"):
        again_on_conflict(action)
    assert action.calls == len(PAUSES_SECONDS) + 1


@pytest.mark.parametrize(
    "error",
    [
        from_database("insert into tegs values ('a')"),
        MlflowException("too long", error_code=INVALID_PARAMETER_VALUE),
        sqlite3.OperationalError("database is locked"),
    ],
    ids=["no table", "parameter", "locked"],
)
def test_another_failure_is_not_tried_again(error: Exception) -> None:
    action = Fails(error, times=1)
    with pytest.raises(type(error)):
        again_on_conflict(action)
    assert action.calls == 1
