"""Hidden sessions: machinery has them to itself until the first user comes, and then they are everybody's."""

from __future__ import annotations

import pytest

from sessionplane.domain.sessions import Interaction, Session, Visibility
from sessionplane.plane import sessions
from tests.support.planes import KEY, NAMESPACE, Bench, ref


async def hidden(bench: Bench) -> Session:
    """The hidden session of the key."""
    return await bench.write(
        lambda tx, use: sessions.create(
            tx,
            use,
            namespace=NAMESPACE,
            key=ref(KEY).key,
            interaction=Interaction.SYSTEM,
            visibility=Visibility.INTERNAL,
        )
    )


@pytest.mark.parametrize(
    ("interaction", "visibility"),
    [(Interaction.USER, Visibility.VISIBLE), (Interaction.SYSTEM, Visibility.INTERNAL)],
)
async def test_the_first_run_of_a_user_shows_a_hidden_session(
    bench: Bench, interaction: Interaction, visibility: Visibility
) -> None:
    """A run that machinery starts leaves it hidden."""
    session_id = (await hidden(bench)).session_id
    started = await bench.start(interaction=interaction)
    assert (started.view.session.session_id, started.view.session.visibility) == (session_id, visibility)
    assert bench.session().visibility is visibility
