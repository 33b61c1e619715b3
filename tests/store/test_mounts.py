"""Which mount commands have a secret in them."""

import pytest

from pi_cli.store import mounts

S = "Xq7hush"


@pytest.mark.parametrize(
    "command",
    [
        f"mount -t cifs -o username=me,password={S} //h/x /m",
        f"mount -t cifs -o pass={S} //h/x /m",
        f"mount -t cifs -o passwd={S} //h/x /m",
        f"mount -t cifs -o pass'word'={S} //h/x /m",
        f"mount -t cifs -o user=u%{S} //h/x /m",
        f"mount -t cifs -o username=domain/u%{S} //h/x /m",
        f"mount -t cifs //u:{S}@h/x /m",
        f"mount -t ceph -o name=admin,secret={S} h:/ /m",
        f"mount -t ceph -o name=admin,secret_key={S} h:/ /m",
        f"mount -t fuse -o token={S} x /m",
        f"mount -t fuse -o sas={S} x /m",
        f"mount -t fuse -o accountkey={S} x /m",
        f"mount -t fuse -o AccountKey='{S}' x /m",
        f"mount -t davfs https://u:{S}@h/x /m",
        f"blobfuse 'https://h/x?sv=2024&sig={S}' /m",
        f"rclone mount --sftp-pass {S} :sftp:x /m",
        f"smbnetfs -U u%{S} /m",
        f"curlftpfs --user u:{S} h /m",
        f"AWS_SECRET_ACCESS_KEY={S} s3fs bucket /m",
        f"PASSWD={S} mount //h/x /m",
        f"echo {S} | sshfs -o password_stdin u@h:/x /m",
        f"echo u:{S} > ~/.passwd-s3fs; s3fs bucket /m",
        f"sshpass -p {S} sshfs u@h:/x /m",
        f"mfsmount -o mfspassword={S} /m",
        f"mount -o password='{S} /m",
    ],
)
def test_a_command_with_a_secret_is_neither_kept_nor_shown(command: str) -> None:
    assert mounts.has_secret(command)
    assert S not in mounts.shown(command)


@pytest.mark.parametrize(
    "command",
    [
        "sudo mount -t nfs -o nconnect=16 nfs.fin-01.datacrunch.io:/NAME-1a2b3c4d /mnt/models",
        "mount -t nfs4 -o nfsvers=4.1,rsize=1048576,hard,timeo=600,noresvport fs-0123.efs.us-east-1.amazonaws.com:/ /m",
        "mount -t nfs monkey.passive.example.com:/keys /m",
        "mount -t cifs -o credentials=/root/.smb,uid=0 //h/x /m",
        "mount -t cifs -o user=me,sec=krb5 //h/x /m",
        "s3fs bucket /m -o passwd_file=/root/.passwd-s3fs",
        "mount -t ceph -o name=admin,secretfile=/etc/ceph/secret h:/ /m",
        "sshfs -o IdentityFile=/root/.ssh/id u@h:/x /m",
        "gcsfuse --key-file=/root/k.json bucket /m",
        "gcsfuse --key-file /root/k.json bucket /m",
        "mount /dev/disk/by-uuid/0a1b2c3d-0000 /mnt/key",
        "mkdir -p /mnt/X && sudo mount -t nfs h:/x /mnt/X 2>/dev/null",
    ],
)
def test_other_commands_are_kept(command: str) -> None:
    assert mounts.shown(command) == command
