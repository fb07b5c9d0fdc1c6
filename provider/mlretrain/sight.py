"""What of the records a decision can depend on: few are read, however long the history is.

Windows and runs are chosen by the names of their files. A decision on what is returned here is the decision
on everything, which ``tests/property/test_retrain_policy.py`` holds it to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter, itemgetter

from mlretrain.ledger import Ledger
from mlretrain.policy.retrain import Retrain, RetrainPolicy, WindowRecord, drift_run_id, new_rows
from mlretrain.policy.situation import SIGHT, attempts
from mlretrain.runtime.contract import run_slug
from mlretrain.windows import RETRAIN_EVENTS, WindowIndex, retrain_of


def windows_in_sight(
    index: WindowIndex,
    retrains: Sequence[Retrain],
    policy: RetrainPolicy,
    *,
    window_end: datetime,
    champion: str,
) -> tuple[WindowRecord, ...]:
    """The windows that the policy counts, needs for the rows since the last retrain, or looks at for a cure.

    :param retrains: those in sight.
    """
    ends = [end for end in index.ends() if end <= window_end]
    own = drift_run_id(window_end)
    earlier = sorted(
        (each for each in retrains if each.window_end <= window_end and each.run_id != own),
        key=attrgetter("window_end", "run_id"),
    )
    tried, _ = attempts(policy, earlier, window_end=window_end, champion=champion)
    since = tried[0].window_end if len(tried) == policy.escalation.page.failed_retrains else None
    found = [
        *_counted(index, policy, ends[-SIGHT:], champion),
        *_fresh(index, policy, ends, earlier[-1].window_end if earlier else None),
        *(_to_a_cure(index, policy, ends[-SIGHT:], since) if since else ()),
    ]
    unique = {(each.window_end, each.champion): each for each in found}
    return tuple(unique[key] for key in sorted(unique))


def _counted(
    index: WindowIndex, policy: RetrainPolicy, ends: Sequence[datetime], champion: str
) -> Iterator[WindowRecord]:
    """The champion's latest windows, until enough could be measured."""
    mine, known, seen = set(index.ends(champion)), 0, 0
    for end in reversed(ends):
        if known >= max(policy.of, policy.warm_up + 1) and seen >= policy.escalation.page.unknown:
            return
        for record in index.at(end, champion) if end in mine else ():
            seen += 1
            known += policy.when.state(record.signals) != "unknown"
            yield record


def _fresh(
    index: WindowIndex, policy: RetrainPolicy, ends: Sequence[datetime], since: datetime | None
) -> list[WindowRecord]:
    """The latest windows, until enough rows have arrived; none if it takes no rows."""
    found: list[WindowRecord] = []
    for end in reversed(ends):
        if (since and end <= since) or round(new_rows(found, since)) >= policy.min_new_rows:
            break
        found += index.at(end)
    return found


def _to_a_cure(
    index: WindowIndex, policy: RetrainPolicy, ends: Sequence[datetime], since: datetime
) -> Iterator[WindowRecord]:
    """The latest windows after ``since``, until one was fine."""
    for end in reversed(ends):
        if end <= since:
            return
        records = index.at(end)
        yield from records
        if any(policy.when.state(each.signals) == "fine" for each in records):
            return


def retrains_in_sight(
    ledger: Ledger, policy: RetrainPolicy, *, window_end: datetime, champion: str
) -> tuple[Retrain, ...]:
    """The window's own retrain, the first later one, and the earlier ones that hold another back."""
    started = ledger.started()
    own = run_slug(drift_run_id(window_end))
    named = sorted((end, slug) for slug, end in started.items() if end and slug != own)
    found = _read(ledger, (slug for slug, end in started.items() if not end or slug == own))
    for _, runs in groupby((each for each in named if each[0] > window_end), key=itemgetter(0)):
        if later := _read(ledger, (slug for _, slug in runs)):
            found += later
            break
    earlier: list[Retrain] = []
    before = (each for each in reversed(named) if each[0] <= window_end)
    for end, runs in groupby(before, key=itemgetter(0)):
        if _enough(policy, earlier, end, window_end=window_end, champion=champion):
            break
        read = _read(ledger, (slug for _, slug in runs))
        earlier = [*sorted(read, key=attrgetter("run_id")), *earlier]
    return tuple(sorted((*found, *earlier), key=attrgetter("window_end", "run_id")))


def _enough(
    policy: RetrainPolicy, earlier: Sequence[Retrain], end: datetime, *, window_end: datetime, champion: str
) -> bool:
    """Whether no retrain from ``end`` or before can matter beside these, which are all the later ones."""
    _, complete = attempts(policy, earlier, window_end=window_end, champion=champion)
    spent = policy.budget_per_s is None or (window_end - end).total_seconds() >= policy.budget_per_s
    return complete and spent


def _read(ledger: Ledger, slugs: Iterable[str]) -> list[Retrain]:
    found = (retrain_of(ledger.of_run(each, *RETRAIN_EVENTS)) for each in slugs)
    return [each for each in found if each]
