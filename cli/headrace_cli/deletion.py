"""Deletes objects from the command line, and waits until they are gone: a controller first removes
their topics and consumer groups, and what is applied meanwhile is deleted with them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headrace_cli.client import ApiClient, Kind
from headrace_cli.waiting import Waiting


class NotDeleted(Exception):
    """An object is still there; the message says which and why."""


@dataclass(frozen=True, slots=True)
class DeletedObject:
    """An object whose deletion the server has accepted."""

    kind: Kind
    namespace: str
    name: str
    uid: str

    @property
    def label(self) -> str:
        """`triggers.eventing.knative.dev/orders`."""
        return f"{self.kind.qualified}/{self.name}"


def delete_object(client: ApiClient, kind: Kind, namespace: str, name: str) -> DeletedObject | None:
    """Delete an object; None if there is none. Raises ApiFailure."""
    uid = client.delete(kind, namespace, name)
    return None if uid is None else DeletedObject(kind, namespace, name, uid)


def wait_deleted(
    client: ApiClient,
    deleted: Sequence[DeletedObject],
    seconds: float,
    slow: Callable[[str], None],
) -> None:
    """Wait until all objects are gone. Raises NotDeleted and ApiFailure.

    `slow` is called with the object that takes longer than usual and the reason.
    """
    waiting = Waiting(seconds, slow)
    for each in deleted:
        while (reason := _reason(client, each)) is not None:
            if not waiting.pause(f"{each.label} is not gone yet ({reason})"):
                where = f" -n {each.namespace}" if each.kind.namespaced else ""
                raise NotDeleted(
                    f"{each.label} is still there after {seconds:g} s ({reason}); `headrace get"
                    f" {each.kind.qualified} {each.name}{where} -o yaml` shows it"
                )


def _reason(client: ApiClient, deleted: DeletedObject) -> str | None:
    """Why an object is still there; None if it is gone, or there is another one of its name."""
    stored = client.get(deleted.kind, deleted.namespace, deleted.name)
    metadata = {} if stored is None else stored.get("metadata", {})
    if stored is None or metadata.get("uid") != deleted.uid:
        return None
    finalizers = ", ".join(metadata.get("finalizers") or ())
    return (
        f"the service of each finalizer has to remove it: {finalizers}"
        if finalizers
        else "the server has not removed it"
    )
