"""What a plot is: its topic, who may play in it, its slots and its lines."""

from typing import NamedTuple


class Plot(NamedTuple):
    """`cast` is any, child or animal; `slots` are settled in order before the lines are told."""

    topic: str
    cast: str
    slots: dict
    lines: list

    @property
    def friend_is_new(self):
        """Whether hero and friend meet in this story, so that the opening must not name them."""
        return self.topic == "a new friend"
