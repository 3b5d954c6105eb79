import pytest

from automl import cluster


@pytest.mark.parametrize(
    ("named", "started", "address"),
    [
        (None, False, "local"),
        (None, True, "auto"),
        ("", True, "auto"),
        ("10.0.0.1:6379", False, "10.0.0.1:6379"),
        ("local", True, "local"),
    ],
)
def test_a_cluster_is_joined_only_where_ray_start_ran(
    named, started, address, tmp_path, monkeypatch
):
    monkeypatch.setattr(cluster, "STARTED", tmp_path / "ray_current_cluster")
    if started:
        cluster.STARTED.write_text("10.0.0.1:6379")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if named is not None:
        monkeypatch.setenv("RAY_ADDRESS", named)
    assert cluster.cluster_address() == address
