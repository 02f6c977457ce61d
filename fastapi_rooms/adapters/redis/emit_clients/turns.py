"""What an emitter's client does at a time, and what is said of it if it fails: pure."""

from __future__ import annotations

from redis.exceptions import ClusterDownError, ReadOnlyError, ResponseError

from fastapi_rooms.adapters.redis.links.reasons import reason_of
from fastapi_rooms.adapters.redis.presence import questions
from fastapi_rooms.errors import AdapterUnavailable


class Turn:
    """What is done at a time, and what it means that it failed."""

    def refused(self, error: ResponseError) -> AdapterUnavailable:
        """Redis did not do it."""
        raise NotImplementedError

    def failed(self, why: str) -> AdapterUnavailable:
        """Redis did not say whether it was done."""
        raise NotImplementedError

    def failure(self, error: BaseException) -> AdapterUnavailable:
        """What was raised."""
        # Of these, what was sent before them may have been carried out, at a node that went away.
        is_late = isinstance(error, ClusterDownError | ReadOnlyError)
        if isinstance(error, ResponseError) and not is_late:
            return self.refused(error)
        return self.failed(f": {reason_of(error)}")


class Sending(Turn):
    """A draft is sent."""

    def __init__(self) -> None:
        self.uncertain = False
        """Whether it may be in a history already, although nothing has said so."""

    def refused(self, error: ResponseError) -> AdapterUnavailable:
        return AdapterUnavailable(f"Redis refused to publish: {reason_of(error)}")

    def failed(self, why: str) -> AdapterUnavailable:
        return AdapterUnavailable(f"Redis did not accept it{why}", uncertain=self.uncertain)


class Asking(Turn):
    """One command of a question."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def refused(self, error: ResponseError) -> AdapterUnavailable:
        return AdapterUnavailable(questions.refused(error, self._prefix))

    def failed(self, why: str) -> AdapterUnavailable:
        return AdapterUnavailable(f"Redis did not say who is present{why}")
