#!/usr/bin/env bash
# ray_cluster.yaml tried for real: `ray up`, `ray submit`, `ray job submit`, `ray rsync-down` and
# `ray down` against this machine, over ssh.
#
#     sudo tests/cluster/launch.sh [--keep] [KEY=VALUE …]
#
# The head is an sshd on a free port of loopback with an account, keys, a /tmp and a table of
# processes of its own, so that other Ray sessions of this machine neither see nor feel it; all of
# it is gone at the end. The study is the quick start's with small values, changed by KEY=VALUE.
# It installs the project anew, with pip: minutes, and 2 GB below /var/tmp.
#
# --keep leaves the folder, with its log files and results, and says where it is.
# RAY names the `ray` to launch with, by default that of .venv.
#
# Exit status: 0 all of it works; 77 something that this needs is missing; 1 anything else.
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
ray=${RAY:-$project/.venv/bin/ray}
python=$(dirname "$ray")/python

small=(
    evaluation.val_pictures=4 evaluation.test_pictures=4
    prioritise.score_pictures=2 prioritise.worth_pictures=2
    training.batch_size=2 training.max_objects=2
    designs.trials=1 designs.steps=2 designs.evaluations=3 final.steps=2 final.evaluations=3
)
keep=
for argument; do
    case $argument in
        --keep) keep=yes ;;
        *=*) small+=("$argument") ;;
        *) echo "$argument: expected --keep or KEY=VALUE" >&2; exit 1 ;;
    esac
done

missing() { echo "launch.sh: needs $1" >&2; exit 77; }
((EUID == 0)) || missing "root: it makes an account and runs an sshd"
PATH=$PATH:/usr/sbin:/sbin
for program in sshd ssh ssh-keygen rsync nc unshare useradd userdel; do
    command -v "$program" > /dev/null || missing "$program"
done
[[ -x $ray ]] || missing "$ray; make run or make test installs it, or RAY names another"
unshare --mount --pid --fork true 2> /dev/null || missing "the right to make namespaces"
# The PATH of a login by ssh: what the account finds need not be what root has.
env -i PATH=/usr/local/bin:/usr/bin:/bin python3 -c \
    'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null ||
    missing "a python3 of 3.11 or newer with venv in /usr/local/bin or /usr/bin"

# Not below /tmp, which the head has another of.
work=$(mktemp -d /var/tmp/supersam-launch.XXXXXX)
account=supersam-$$
head=
step() { printf '\n== %s\n' "$*"; }
fail() { echo "launch.sh: $*" >&2; exit 1; }
finish() {
    status=$?
    set +e
    # The head's first process: with it the kernel ends all that were started there.
    [[ $head ]] && kill -KILL "$head" && wait "$head" 2> /dev/null
    userdel "$account" 2> /dev/null
    rm -rf /tmp/ray_ssh_*/"$(printf %s "$account" | sha256sum | cut -c 1-10)" # of Ray's ssh
    if [[ $keep ]]; then echo "kept: $work"; else rm -rf "$work"; fi
    ((status == 0)) && echo "launch.sh: all of it works" || echo "launch.sh: failed" >&2
    exit "$status"
}
trap finish EXIT
trap 'exit 1' INT TERM

step "An account and an sshd of its own"
chmod 755 "$work"
mkdir -p "$work/launcher" "$work/keys" /run/sshd
mkdir -m 1777 "$work/tmp"
useradd --home-dir "$work/home" --create-home --shell /bin/bash --password '*' "$account"
ssh-keygen -q -t ed25519 -N '' -f "$work/keys/host"
ssh-keygen -q -t ed25519 -N '' -f "$work/keys/user"
install -d -m 700 -o "$account" "$work/home/.ssh"
install -m 600 -o "$account" "$work/keys/user.pub" "$work/home/.ssh/authorized_keys"
read -r ssh_port head_port dashboard_port agent_port < <("$python" - <<'END'
import socket

held = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
print(*(listening.getsockname()[1] for listening in held))
END
)
{
    printf '%s\n' "ListenAddress 127.0.0.1" "Port $ssh_port" "HostKey $work/keys/host" \
        "AllowUsers $account" "PasswordAuthentication no" "PidFile none"
    # How pip gets out of here; a login has none of it.
    env | grep -E '^(PIP_|SSL_CERT|(HTTPS?|NO)_PROXY=|(https?|no)_proxy=)' |
        sed 's/.*/"&"/' | tr '\n' ' ' | sed 's/^/SetEnv /'
    echo
} > "$work/sshd_config"
sshd -t -f "$work/sshd_config"
unshare --mount --pid --fork --kill-child --mount-proc bash -c \
    'mount --bind "$1/tmp" /tmp && exec "$2" -D -f "$1/sshd_config" -E "$1/sshd.log"' \
    head "$work" "$(command -v sshd)" &
head=$!

"$python" - "$project/ray_cluster.yaml" "$work/ray_cluster.yaml" <<END
import sys
from pathlib import Path

import yaml

shipped, mine = map(Path, sys.argv[1:])
cluster = yaml.safe_load(shipped.read_text())
cluster["cluster_name"] = "$account"
cluster["auth"] = {
    "ssh_user": "$account",
    "ssh_private_key": "$work/keys/user",
    "ssh_proxy_command": "nc %h $ssh_port",
}
stop, start = cluster["head_start_ray_commands"]
ports = "--port=$head_port --dashboard-port=$dashboard_port"
ports += " --dashboard-agent-listen-port=$agent_port"
free = start.replace("--port=6379", ports)
assert free != start
cluster["head_start_ray_commands"] = [stop, free]
mine.write_text(yaml.safe_dump(cluster))
END
cluster=$work/ray_cluster.yaml

# Head and launcher must not share their notes on the cluster, as if they were two machines.
launcher() { TMPDIR=$work/launcher "$ray" "$@"; }
cd "$project"

step "ray up"
launcher up --yes "$cluster"

step "ray submit"
launcher submit "$cluster" run.py -- --config configs/quickstart.yaml "${small[@]}"

step "The same again: all of it is there"
launcher submit "$cluster" run.py -- --config configs/quickstart.yaml "${small[@]}"

step "A mistake of the user's: exit status 1"
status=0
launcher submit "$cluster" run.py -- --config configs/quickstart.yaml no.key=1 || status=$?
((status == 1)) || fail "ray submit ended with $status where the job could not run"

step "ray job submit"
launcher job submit --address "http://127.0.0.1:$dashboard_port" -- bash -c \
    "cd ~/supersam-automl && .venv/bin/python run.py --config configs/quickstart.yaml \
    --output runs/job ${small[*]}"

step "The results, here"
launcher rsync-down "$cluster" '~/supersam-automl/runs/' "$work/runs/"
"$python" - "$work/runs" <<'END'
import sys
from pathlib import Path

import pyarrow.parquet as pq

fronts = {}
for name in ("quickstart", "job"):
    output = Path(sys.argv[1]) / name
    rows = pq.read_table(output / "front.parquet").to_pylist()
    assert rows, name
    assert all((output / "subnets" / row["subnet"] / "model.safetensors").exists() for row in rows)
    assert (output / "report.html").exists()
    fronts[name] = [row["subnet"] for row in rows]
assert fronts["quickstart"] == fronts["job"], fronts
print("front:", *fronts["job"])
END

step "ray down"
launcher down --yes "$cluster"
for _ in {1..20}; do
    left=$(ps -o args= -u "$account" || true)
    [[ $left ]] || break
    sleep 0.5
done
[[ -z $left ]] || fail "left of the account's processes: $left"
