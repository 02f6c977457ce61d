"""Which of the published messages a broker has confirmed: pure.

RabbitMQ numbers what is published on a channel, and confirms the numbers: one, or all up to one,
and not always in order. Commands are answered in order; so a confirmation that comes early waits
for those before it.
"""

from __future__ import annotations

from fastapi_rooms.adapters.rabbitmq.links.frames import Confirmed, ProtocolError


class Confirms:
    """The numbers of one channel.

    Args:
        last: the last number that is confirmed already.
    """

    def __init__(self, last: int = 0) -> None:
        self._last = last
        self._early: dict[int, bool] = {}

    def confirmed(self, event: Confirmed, unanswered: int) -> list[bool]:
        """What is answered by that, in order: whether each was accepted.

        Args:
            event: what came.
            unanswered: how many commands wait for an answer.

        Raises:
            ProtocolError: it confirms what was never published.
        """
        highest = self._last + unanswered
        tag = event.tag or (highest if event.multiple else 0)  # 0: everything so far
        if not self._last < tag <= highest:
            if event.multiple and tag == self._last:
                return []
            raise ProtocolError(f"it confirms the message {event.tag}, which was not published")
        if event.multiple:
            for number in range(self._last + 1, tag + 1):
                self._early.setdefault(number, event.accepted)
        else:
            self._early[tag] = event.accepted
        answers = []
        while self._early and (answer := self._early.pop(self._last + 1, None)) is not None:
            answers.append(answer)
            self._last += 1
        return answers
