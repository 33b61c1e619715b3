"""Programs that mount a file system of their own, such as rclone and s3fs, and how to read their arguments."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that mounts: its operands, and those of its options that are not obvious from their number."""

    operands: tuple[int, ...] = (2,)
    source: str = r"[^/].*"  # what an operand before the folder looks like
    subcommands: tuple[str, ...] = ()
    flags: str = ""  # options without a value
    valued: str = "-o"  # options with a value, which may be the next word


_S3 = Tool((1, 2), r"(s3://)?[^/]+(:.*|/)?", flags="-f -d -s --allow-other --read-only --allow-delete")
TOOLS = {
    "rclone": Tool(
        source=r"[^/]*:.*",
        subcommands=("mount", "mount2", "cmount", "nfsmount"),
        flags="--daemon --allow-other --allow-root --allow-non-empty --read-only --default-permissions --network-mode "
        "--no-modtime --no-checksum --no-seek --vfs-fast-fingerprint --vfs-refresh --fast-list --debug-fuse -v -vv",
        valued="-o --cache-dir --config --log-file --vfs-cache-mode --vfs-cache-max-size --dir-cache-time --umask "
        "--buffer-size --transfers --rc-addr --uid --gid",
    ),
    "juicefs": Tool(
        source=r".+://.*|[^/]+",
        subcommands=("mount",),
        flags="-d --background --no-usage-report --writeback --read-only --no-syslog --no-bgjob --enable-xattr -f",
        valued="-o --cache-dir --cache-size --log --subdir --metrics --conf-dir --buffer-size",
    ),
    "gcsfuse": Tool((1, 2), r"[^/]+", flags="--implicit-dirs --foreground", valued="-o --key-file --log-file"),
    "s3fs": _S3,
    "goofys": _S3,
    "geesefs": _S3,
    "tigrisfs": _S3,
    "mount-s3": Tool(source=r"(s3://)?[^/]+/?", flags="--allow-other --read-only --allow-delete -f --foreground"),
    "sshfs": Tool(source=r"[^/]*:.*", flags="-C -f -d -s -1 -4 -6", valued="-o -p -F"),
    "blobfuse2": Tool((1,), subcommands=("mount",), flags="--foreground --read-only --allow-other --use-adls"),
    "blobfuse": Tool((1,)),
    "bindfs": Tool(source=".*"),
    "mergerfs": Tool(source=".*"),
    "ntfs-3g": Tool(source=".*"),
    "glusterfs": Tool((1,), valued="-s -f -L -o"),
    "ceph-fuse": Tool((1,), valued="-m -n -c -k -r -i -o --id --client_fs"),
    "mfsmount": Tool((1, 2), source="mfs.*", valued="-H -S -P -o"),
    "curlftpfs": Tool(),
    "systemd-mount": Tool(
        source=".*", flags="--no-block -G --collect --discover -q", valued="-o -t -p --options --type"
    ),
}
