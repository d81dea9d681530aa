"""Which replicas of a tablet are right, by what each says of its rows (pure; rule G6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from catalog.model import NodeId
from storage.checksum import FragmentChecksum

Sums = tuple[FragmentChecksum, ...]


class Verdict(StrEnum):
    """What a comparison says of one replica."""

    EQUAL = "equal"
    DIFFERS = "differs"  # from a majority of all replicas, so it is wrong
    IN_DOUBT = "in doubt"  # replicas differ, and no majority says which are right
    DAMAGED = "damaged"
    NOT_COMPARED = "not compared"


@dataclass(frozen=True, slots=True)
class Answer:
    """One replica's: its sums and the engine that made them, or why there are none."""

    sums: Sums | None = None
    engine: str = ""
    trouble: str = ""
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """`rows` are those of all fragments; `digest` stands for all of the tablet's contents."""

    verdict: Verdict
    rows: int | None = None
    digest: str = ""
    trouble: str = ""


def judge(answers: Mapping[NodeId, Answer]) -> dict[NodeId, Judgement]:
    """The verdict on each replica. `answers` holds every replica of the tablet.

    A minority is one against more than half of *all* replicas, silent ones included: with one
    of three down, two that differ are both in doubt. Sums of different engines say nothing of
    each other; those of the commonest are compared.
    """
    summed = {n: a for n, a in answers.items() if a.sums is not None}
    engines = Counter(answer.engine for answer in summed.values())
    engine = max(engines, key=lambda name: (engines[name], name)) if engines else ""
    compared = {n: a.sums for n, a in summed.items() if a.engine == engine}
    votes = Counter(compared.values())
    right = next((sums for sums, count in votes.items() if 2 * count > len(answers)), None)
    judgements = {}
    for node_id, answer in answers.items():
        if node_id not in compared:
            judgements[node_id] = _not_compared(answer, engine)
            continue
        if len(votes) == 1:
            verdict = Verdict.EQUAL
        elif right is None:
            verdict = Verdict.IN_DOUBT
        else:
            verdict = Verdict.EQUAL if answer.sums == right else Verdict.DIFFERS
        judgements[node_id] = _judgement(verdict, answer)
    return judgements


def _not_compared(answer: Answer, engine: str) -> Judgement:
    if answer.sums is not None:
        trouble = f"it runs {answer.engine}, the others {engine}"
        return Judgement(Verdict.NOT_COMPARED, trouble=trouble)
    verdict = Verdict.DAMAGED if answer.damaged else Verdict.NOT_COMPARED
    return Judgement(verdict, trouble=answer.trouble)


def _judgement(verdict: Verdict, answer: Answer) -> Judgement:
    sums = answer.sums or ()
    rows = sum(s.rows for s in sums)
    digest = "-".join(s.digest for s in sums)
    return Judgement(verdict, rows, digest)
