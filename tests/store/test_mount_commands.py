"""Where mount commands mount, as people and providers write them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pi_cli.store import mount_commands, shell_commands
from pi_cli.store.mount_commands import Unclear
from tests.every import every
from tests.properties import PROPERTY

M = "/mnt/models"
RECIPE = """
sudo apt-get update
sudo apt-get install -y nfs-common
sudo mkdir -p {m}   # the folder
sudo mount -t nfs -o nconnect=16 \\
  nfs.fin-01.example.com:/m-1 {m}
echo "nfs.fin-01.example.com:/m-1 {m} nfs defaults,nconnect=16 0 0" | sudo tee -a /etc/fstab
"""

# In each, {m} stands for the folder.
NFS = """
mount -t nfs -o nconnect=16 nfs.example.com:/models-1 {m}
mount h:/x {m} -o rw,hard -v
mount -t nfs -o a=b -o c=/d h:/x {m}/
mount -tnfs -orw h:/x {m}
mount -vt nfs4 h:/x {m}
mount --types=nfs4 h:/x {m}
mount -o rw --target {m} --source h:/x
mount --target={m} h:/x
mount --mkdir h:/x {m}
mount -m h:/x {m}
mount [fd00::1]:/x {m}
/usr/bin/mount h:/x {m}
mount.nfs4 h:/x {m} -o rw
sudo -E mount h:/x {m}
sudo -u root mount h:/x {m}
sudo --user root -- mount h:/x {m}
sudo bash -c "mkdir -p {m} && mount h:/x {m}"
bash -lc 'mount h:/x {m}'
su - root -c 'mount h:/x {m}'
timeout -k 5 60 mount h:/x {m}
env LC_ALL=C mount h:/x {m}
LC_ALL=C nice -n 5 mount h:/x {m}
mkdir -p {m} && sudo mount -t nfs h:/x {m} 2>/dev/null
mount h:/x {m} >> /var/log/mount.log
mount h:/x {m} > /var/log/m 2>&1 &
mount h:/x {m} &> /log; ls /mnt
mount h:/x {m} # /not/this
mount h:/x {m}; df -h /data; chown -R me /opt
mountpoint -q {m} || mount h:/x {m}
if ! mountpoint -q {m}; then sudo mount h:/x {m}; fi
for i in 1 2 3; do mount h:/x {m} && break; sleep 2; done
(mount h:/x {m})
{{ mount h:/x {m}; }}
M={m}; mkdir -p $M; mount h:/x "$M"
export M={m} && mount h:/x ${{M}}
mount -o remount,rw / && mount h:/x {m}
mount $OPTIONS h:/x {m}
echo 'h:/x {m} nfs defaults 0 0' >> /etc/fstab; mkdir -p {m}; mount -a
echo "h:/x {m} nfs defaults 0 0" | sudo tee -a /etc/fstab > /dev/null && sudo mount {m}
printf 'h:/x\\t{m}\\tnfs\\tdefaults 0 0\\n' >> /etc/fstab && mount -av
mount h:/x {m} && true username=u,password=hush
""".strip().splitlines()

OTHERS = """
mount /dev/vdb {m} > /dev/null
mount UUID=0a-b {m}
mount -L models {m}
mount -U 0a-b {m}
mount LABEL=models {m}
mount {m}
mount --bind /data/models {m}
mount /dev/nvme1n1 /data && mount --bind /data/models {m}
mkfs.ext4 /dev/nvme1n1; mount /dev/nvme1n1 {m}; chown me {m}
mount -o discard,defaults /dev/disk/by-id/google-x {m} && sudo chmod a+w {m}
mount -t wekafs -o net=udp h/fs {m}
mount -t lustre -o relatime,flock 10.0.0.1@tcp:/fsx {m}
mount -t efs -o tls fs-1 {m}
mount -t ceph h1,h2:/ {m} -o name=admin,secretfile=/etc/ceph/secret
systemctl start mnt-models.mount
rclone mount r:x {m} --daemon --vfs-cache-mode full --cache-dir /nvme/cache
rclone mount --allow-other r:x {m} --cache-dir /nvme/cache > /var/log/r.log 2>&1 &
rclone --config /root/r.conf mount r: {m} --log-file /x
rclone mount r:x {m} --an-option-of-tomorrow /x --daemon
rclone mount --an-option-of-tomorrow r:x {m} --cache-dir /x
nohup rclone mount r:x {m} --daemon-timeout 3 &
juicefs mount -d redis://:p@h:6379/1 {m} --cache-dir /nvme
juicefs mount redis://h/1 {m} -d --cache-dir /nvme --cache-size 100
juicefs mount myjfs {m} --cache-dir=/nvme
gcsfuse --key-file /root/k.json bucket {m}
gcsfuse --implicit-dirs bucket {m} --cache-dir /x
gcsfuse {m}
s3fs b {m} -o passwd_file=/root/p -o url=http://x -o use_path_request_style
s3fs b:/models {m} -o use_cache=/tmp/x,allow_other
s3fs {m} -o bucket=b
goofys --endpoint http://h --profile p b {m}
geesefs --endpoint https://h --cache /x b:models {m}
mount-s3 b {m} --cache /nvme --allow-other
mount-s3 --cache /nvme --read-only s3://b/ {m}
sshfs -o IdentityFile=/root/k -p 22 u@h:/x {m}
sshfs u@h:/x {m} -o reconnect,IdentityFile=/root/k
sshfs u@h: {m} -C -F /root/config
echo hush | sshfs -o password_stdin u@h:/x {m}
blobfuse2 mount {m} --config-file /root/c.yaml
blobfuse2 mount --config-file=/root/c.yaml {m}
blobfuse2 mount --read-only {m} --config-file /root/c.yaml --tmp-path /tmp/b
blobfuse {m} --tmp-path=/mnt/tmp --config-file=/root/c -o allow_other
bindfs -o ro /data {m}
mfsmount {m} -H h
glusterfs -s h --volfile-id=v {m}
weed mount -filer=h:8888 -dir={m} -filer.path=/
systemd-mount /dev/vdb {m}
mount-models -t tmpfs none {m}
/opt/mount.sh {m}
python3 /opt/mount.py {m}
""".strip().splitlines()

ALL = [RECIPE, *NFS, *OTHERS]


@every(ALL)
def test_the_folder_is_that_of_the_command_that_mounts(command: str) -> None:
    assert mount_commands.read(command.format(m=M)).target == M


@every(
    [each for each in ALL if '"' not in each and "'" not in each and "for i" not in each and "systemctl" not in each]
)
def test_the_home_and_spaces_are_the_pods(command: str) -> None:
    for written in ("~/models", "$HOME/models", "${HOME}/models"):
        if "={m}" not in command:  # there a shell expands no `~`
            assert mount_commands.read(command.format(m=written)).target == "~/models"
    assert mount_commands.read(command.format(m="'/mnt/my models'")).target == "/mnt/my models"


def test_the_home_in_an_entry_of_fstab_is_the_pods() -> None:
    command = 'mkdir ~/m; mount h:/x "$HOME/m"; echo "h:/x $HOME/m nfs defaults 0 0" | tee -a /etc/fstab'
    assert mount_commands.read(command).target == "~/m"


@every([RECIPE, *NFS])
def test_nfs_is_recognised_with_its_share(command: str) -> None:
    mount = mount_commands.read(command.format(m=M))
    assert mount.kind == "nfs"
    assert mount.shown_source in ("h:/x", "[fd00::1]:/x", "nfs.example.com:/models-1", "nfs.fin-01.example.com:/m-1")


@every(OTHERS)
def test_other_kinds_need_no_nfs_and_are_compared_only_where_the_kernel_shows_their_source(command: str) -> None:
    mount = mount_commands.read(command.format(m=M))
    assert mount.kind not in ("nfs", "cifs")
    assert mount.shown_source in ("", "/dev/vdb", "/dev/nvme1n1", "/dev/disk/by-id/google-x", "10.0.0.1@tcp:/fsx")


@every(
    ["mount -t cifs //h/x /m -o credentials=/root/c", "mount //h/x /m", "mount -t smb3 //h/x /m", "mount.cifs //h/x /m"]
)
def test_shares_of_windows_are_recognised(command: str) -> None:
    assert (mount_commands.read(command).kind, mount_commands.read(command).target) == ("cifs", "/m")


UNCLEAR = {
    "mount -a": "it names no folder to mount on",
    "mount": "it names no folder to mount on",
    "apt-get install -y nfs-common && mkdir -p /mnt/m": "it names no folder to mount on",
    "mount | grep /mnt": "it names no folder to mount on",
    "echo 'h:/x /mnt/m nfs defaults 0 0' >> /etc/fstab": "it names no folder to mount on",
    "cd /mnt && mount h:/x models": "it names no absolute path to mount on",
    "mount h:/x $PLACE": "it names no absolute path to mount on",
    'mount h:/x "$(cat /place)"': "it names no absolute path to mount on",
    "mount h:/x ~someone/models": "it names no absolute path to mount on",
    "mount UUID=0a-b": "it names no absolute path to mount on",
    "blobfuse2 mount all /mnt/b --config-file=/x": "it names no absolute path to mount on",
    "rclone mount r: --cache-dir /x": "it names no absolute path to mount on",
    "/opt/mount.sh /a /b": "it names no absolute path to mount on",
    "mount h:/a /mnt/a; mount h:/b /mnt/b": "it mounts more than one folder",
}


@every(UNCLEAR)
def test_what_does_not_say_where_it_mounts_is_refused_unless_the_folder_is_given(command: str) -> None:
    with pytest.raises(Unclear, match=UNCLEAR[command]):
        mount_commands.read(command)
    assert not mount_commands.read(command, "/mnt/elsewhere").target


def test_a_models_path_chooses_among_several_mounts() -> None:
    command = "mount h:/a /mnt/a; mount h:/b /mnt/b"
    assert mount_commands.read(command, "/mnt/a/models").target == "/mnt/a"
    assert mount_commands.read(command, "/mnt/b").target == "/mnt/b"


@every(["mount '/mnt", 'mount "h:/x', "mount h:/x /mnt; echo 'a"])
def test_an_open_quote_is_named(command: str) -> None:
    with pytest.raises(ValueError, match="no closing quotation"):
        mount_commands.read(command)


@PROPERTY
@given(st.text(alphabet=" \n\t;&|<>(){}$`'\"\\#=~-/abmountHOME01", max_size=60))
@example("mount $(")
@example("a <<")
@example("mount -o")
def test_any_text_is_read(text: str) -> None:
    try:
        commands = shell_commands.read(text)
    except ValueError:
        return
    assert all(
        "\n" not in word or "'" in text or '"' in text or "\\" in text for each in commands for word in each.words
    )
    try:
        target = mount_commands.read(text).target
    except ValueError:
        return
    assert target.startswith(("/", "~"))
