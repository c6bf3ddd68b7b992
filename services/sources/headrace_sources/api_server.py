"""The Kubernetes API server of a sources process: that of its cluster, or Headrace's own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # its library is loaded when a source needs it
    from headrace.adapters.kubernetes.watcher import WatchApi


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServer:
    """Where it is, and as whom this process uses it."""

    kubeconfig: Path | None = None
    """Without one and without `url`: the pod's service account, or else the user's kubeconfig."""
    url: str = ""
    """URL of the controller's API in the same process."""
    token: Callable[[], str] = field(default=lambda: "", repr=False)
    """Its bearer token, with `url`."""
    certificate_authority: Path | None = None
    """CA of its certificate (PEM), with `url`."""

    def open(self) -> "WatchApi":
        """Return a client. Raises Permanent if the kubeconfig cannot be used."""
        from headrace.adapters.kubernetes.connection import read_kubeconfig
        from headrace.adapters.kubernetes.watcher import WatchApi, config_of

        if not self.url:
            return WatchApi(read_kubeconfig(self.kubeconfig))
        return WatchApi(
            config_of(
                self.url,
                token=self.token(),
                certificate_authority=self.certificate_authority,
            )
        )
