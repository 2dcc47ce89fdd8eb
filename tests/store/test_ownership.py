"""Who may open a database: the lock, and the file systems on which no lock helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessionplane.domain.errors import StoreBusy, StoreFailed
from sessionplane.store.failures import FileLost, StoreUnusable
from sessionplane.store.ownership import OwnerLock, file_system, refuse_network_file_system
from sessionplane.store.sqlite import SqliteStore, open_store

MOUNTS = r"""/dev/vda / ext4 rw 0 0
server:/export /data nfs4 rw 0 0
/dev/vdb /data/local xfs rw 0 0
sshfs#host /mnt/with\040blank fuse.sshfs rw 0 0
tmpfs /data/local/covered tmpfs rw 0 0
//server/share /data/local/covered cifs rw 0 0
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """A list of mounts as the kernel writes it."""
    path = tmp_path / "mounts"
    path.write_text(MOUNTS)
    return path


async def test_a_second_opener_is_refused_and_told_the_path(store: SqliteStore, database: Path) -> None:
    """The first one goes on as if nothing had been."""
    with pytest.raises(StoreBusy) as refusal:
        open_store(database)
    assert refusal.value.details == {"path": str(database)}
    assert await store.submit(lambda tx: tx.store_id) == store.store_id


async def test_closing_lets_the_next_one_in(store: SqliteStore, database: Path) -> None:
    """The lock's file stays, the lock does not."""
    await store.close()
    assert database.with_name("sessionplane.db.lock").exists()
    OwnerLock(database).release()


def test_a_refused_file_lets_go_of_its_lock(database: Path) -> None:
    """Whoever repairs it may try again at once."""
    database.write_bytes(b"x" * 1_000)
    with pytest.raises(StoreUnusable):
        open_store(database)
    OwnerLock(database).release()


def test_a_link_leads_to_the_lock_of_what_it_names(database: Path) -> None:
    """SQLite puts the log beside the file itself, so there the two would meet."""
    link = database.with_name("link.db")
    link.symlink_to(database)
    lock = OwnerLock(link)
    with pytest.raises(StoreBusy):
        OwnerLock(database)
    lock.release()


@pytest.mark.parametrize("ending", ["", "-wal", "-shm", ".lock"])
@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_is_taken_away_ends_the_store_and_nothing_is_folded(
    database: Path, ending: str, *, replaced: bool
) -> None:
    """All four are held by identity: what stands under the name now is left alone."""
    store = open_store(database)
    await store.submit(lambda tx: tx.save_fact("fact", "is here"))
    await store.look_for_files()
    take_away(database, ending, replaced=replaced)
    beside = content_beside(database)
    with pytest.raises(FileLost, match="removed or replaced"):
        await store.look_for_files()
    assert isinstance(await store.failed, FileLost)
    with pytest.raises(StoreFailed):
        store.submit(lambda _: None)
    await store.close()
    assert content_beside(database) == beside


def take_away(database: Path, ending: str, *, replaced: bool) -> None:
    """Remove one of the files of a database, or put another one in its place."""
    path = Path(f"{database}{ending}")
    path.rename(database.with_name("away"))
    if replaced:
        path.write_bytes(b"another file")


def content_beside(database: Path) -> dict[str, bytes]:
    """Read what stands under the names of a database and its log."""
    return {
        path.name: path.read_bytes()
        for path in database.parent.glob("sessionplane.db*")
        if "shm" not in path.name
    }


def test_a_missing_folder_is_said_in_a_sentence(tmp_path: Path) -> None:
    """With the path in it, and without making the folder."""
    with pytest.raises(StoreUnusable, match="No such file or directory"):
        open_store(tmp_path / "none" / "sessionplane.db")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home", "ext4"),
        ("/data", "nfs4"),
        ("/data/x/y", "nfs4"),
        ("/database", "ext4"),
        ("/data/local/x", "xfs"),
        ("/mnt/with blank/x", "fuse.sshfs"),
        ("/data/local/covered", "cifs"),
    ],
)
def test_the_nearest_and_newest_mount_decides(mounts: Path, folder: str, kind: str) -> None:
    """By whole parts of the path."""
    assert file_system(Path(folder), mounts) == kind


@pytest.mark.parametrize("folder", ["/data", "/mnt/with blank", "/data/local/covered"])
def test_a_network_file_system_is_refused(mounts: Path, folder: str) -> None:
    """The sentence names the folder and what it is on."""
    with pytest.raises(StoreUnusable, match="network file system"):
        refuse_network_file_system(Path(folder) / "sessionplane.db", mounts=mounts)


@pytest.mark.parametrize("folder", ["/home", "/data/local"])
def test_a_local_file_system_is_accepted(mounts: Path, folder: str) -> None:
    """Also one that is mounted inside a network's."""
    refuse_network_file_system(Path(folder) / "sessionplane.db", mounts=mounts)


def test_without_a_list_of_mounts_nothing_is_refused(tmp_path: Path) -> None:
    """Not every system has one."""
    refuse_network_file_system(tmp_path / "sessionplane.db", mounts=tmp_path / "none")
