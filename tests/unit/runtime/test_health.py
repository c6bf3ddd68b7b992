"""The responses to probes."""

from headrace.runtime.health import Health


def test_not_ready_before_everything_has_started() -> None:
    """The process is ready only after `started`."""
    health = Health()
    assert "[-]started failed: still starting\ncheck failed" == health.readiness().text(
        verbose=False
    )
    health.started()
    assert health.readiness().passed


def test_a_failing_check_makes_it_not_ready_with_its_reason() -> None:
    """One failed check is sufficient. The verbose page lists the other checks too."""
    health = Health()
    health.started()
    health.add("routing", lambda: "not read to the end")
    health.add("kafka", lambda: None)
    assert not health.readiness().passed
    assert "[-]routing failed: not read to the end\ncheck failed" == health.readiness().text(
        verbose=False
    )
    assert "[+]kafka ok" in health.readiness().text(verbose=True)
    assert health.readiness(exclude=["routing"]).passed


def test_draining_makes_it_not_ready_but_leaves_it_alive() -> None:
    """A process that drains must not be restarted by its liveness probe."""
    health = Health()
    health.started()
    health.drain("SIGTERM")
    assert not health.readiness().passed
    assert health.liveness().passed


def test_a_check_that_raises_counts_as_failed() -> None:
    """The probe still gets a page."""

    def broken() -> str | None:
        raise KeyError("x")

    health = Health()
    health.started()
    health.add("broken", broken)
    assert "the check itself failed: KeyError" == health.readiness().results[-1].reason
