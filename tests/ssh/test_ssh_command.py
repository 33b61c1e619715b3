"""ssh commands as dashboards show them and as users copy them."""

import os
import pwd
import re
from pathlib import Path

import pytest

from pi_cli.errors import BadUsage
from pi_cli.ssh import ssh_options
from pi_cli.ssh.ssh_command import lasting, parse
from tests.every import every

FOLDER = Path(ssh_options.__file__).parent
LOGIN_MODULES = [
    FOLDER / f"{module}.py"
    for module in ("ssh_config", "transport", "keys", "trust", "login", "one_login", "algorithms")
]
BY_SSH_ITSELF = {"CanonicalDomains", "CanonicalizeFallbackLocal", "CanonicalizeHostname", "Tag"}  # `ssh -G` obeys them

# ssh(1) and ssh_config(5) of OpenSSH 10.0.
LETTERS = "46AaBbCcDEeFfGgIiJKkLlMmNnOoPpQqRSsTtVvWwXxYy"
KEYWORDS = re.findall(
    r"\w+",
    """
    AddKeysToAgent AddressFamily BatchMode BindAddress BindInterface CASignatureAlgorithms CanonicalDomains
    CanonicalizeFallbackLocal CanonicalizeHostname CanonicalizeMaxDots CanonicalizePermittedCNAMEs CertificateFile
    ChannelTimeout CheckHostIP Ciphers ClearAllForwardings Compression ConnectTimeout ConnectionAttempts ControlMaster
    ControlPath ControlPersist DynamicForward EnableEscapeCommandline EnableSSHKeysign EscapeChar ExitOnForwardFailure
    FingerprintHash ForkAfterAuthentication ForwardAgent ForwardX11 ForwardX11Timeout ForwardX11Trusted
    GSSAPIAuthentication GSSAPIDelegateCredentials GatewayPorts GlobalKnownHostsFile HashKnownHosts Host
    HostKeyAlgorithms HostKeyAlias HostbasedAcceptedAlgorithms HostbasedAuthentication Hostname IPQoS IdentitiesOnly
    IdentityAgent IdentityFile IgnoreUnknown Include KbdInteractiveAuthentication KbdInteractiveDevices KexAlgorithms
    KnownHostsCommand LocalCommand LocalForward LogLevel LogVerbose MACs Match NoHostAuthenticationForLocalhost
    NumberOfPasswordPrompts ObscureKeystrokeTiming PKCS11Provider PasswordAuthentication PermitLocalCommand
    PermitRemoteOpen Port PreferredAuthentications ProxyCommand ProxyJump ProxyUseFdpass PubkeyAcceptedAlgorithms
    PubkeyAuthentication RekeyLimit RemoteCommand RemoteForward RequestTTY RequiredRSASize RevokedHostKeys
    SecurityKeyProvider SendEnv ServerAliveCountMax ServerAliveInterval SessionType SetEnv StdinNull
    StreamLocalBindMask StreamLocalBindUnlink StrictHostKeyChecking SyslogFacility TCPKeepAlive Tag Tunnel TunnelDevice
    UpdateHostKeys User UserKnownHostsFile VerifyHostKeyDNS VisualHostKey XAuthLocation
""",
)


@every(
    [
        ("ssh root@1.2.3.4", "root", "1.2.3.4", None),
        ("ssh root@1.2.3.4 -p 40022", "root", "1.2.3.4", 40022),
        ("ssh root@1.2.3.4 -p 40022 -i ~/.ssh/key", "root", "1.2.3.4", 40022),
        ("ssh -p40022 root@1.2.3.4", "root", "1.2.3.4", 40022),
        ("ssh -p022 root@1.2.3.4", "root", "1.2.3.4", 22),
        ("ssh -vvp 22 -l ubuntu host.example", "ubuntu", "host.example", 22),
        ("root@1.2.3.4 -p 1234", "root", "1.2.3.4", 1234),
        ("-p 1234 root@1.2.3.4", "root", "1.2.3.4", 1234),
        ("ssh -i ~/.ssh/key root@1.2.3.4 -p 22 -v", "root", "1.2.3.4", 22),
        ("ssh my-alias", None, "my-alias", None),
        ("my-alias", None, "my-alias", None),
        ("my-alias -i ~/keys/ssh", None, "my-alias", None),
        ("/usr/bin/ssh -o Port=2200 -o 'User ubuntu' h", "ubuntu", "h", 2200),
        ("ssh -oPort=2200 -oUser=ubuntu h", "ubuntu", "h", 2200),
        ("ssh -o 'Port = 2200' -o \"user ubuntu\" h", "ubuntu", "h", 2200),
        ("ssh -o Port=2200 -p 22 h", None, "h", 2200),
        ("ssh -l a -l b -o User=c d@h", "a", "h", None),
        ("ssh b@h -l a", "b", "h", None),
        ("ssh -- root@h", "root", "h", None),
        ("ssh root@h --", "root", "h", None),
        ("ssh user:target@domain@gateway", "user:target@domain", "gateway", None),
        # URIs, and a port behind the host
        ("ssh ssh://root@1.2.3.4:2222", "root", "1.2.3.4", 2222),
        ("ssh://root@1.2.3.4:2222/", "root", "1.2.3.4", 2222),
        ("SSH://h", None, "h", None),
        ("ssh ssh://ro%6ft@h", "root", "h", None),
        ("ssh -p 22 ssh://root@h:2222", "root", "h", 22),
        ("ssh root@1.2.3.4:40022", "root", "1.2.3.4", 40022),
        # IPv6
        ("ssh -6 root@2001:db8::1", "root", "2001:db8::1", None),
        ("ssh root@[2001:db8::1]", "root", "2001:db8::1", None),
        ("ssh root@[2001:db8::1]:2222", "root", "2001:db8::1", 2222),
        ("ssh root@fe80::1%eth0", "root", "fe80::1%eth0", None),
        ("ssh ssh://root@[::1]:2222", "root", "::1", 2222),
        ("ssh ssh://root@[fe80::1%25eth0]:2222", "root", "fe80::1%eth0", 2222),
        # quotes
        ("ssh 'root'@\"1.2.3.4\" -p '22'", "root", "1.2.3.4", 22),
        (r"ssh ro\ot@h", "root", "h", None),
        ('"ssh root@h -p 22"', "root", "h", 22),
        ("'ssh root@h'", "root", "h", None),
        ("“ssh root@h -p 22”", "root", "h", 22),
        # copied along
        ("  ssh root@h -p 22  \n", "root", "h", 22),
        ("ssh root@h \\\n  -p 22\n", "root", "h", 22),
        ("ssh root@h \\\r\n  -p 22\r\n", "root", "h", 22),
        ("$ ssh root@h", "root", "h", None),
        ("# ssh root@h", "root", "h", None),
        ("PS C:\\Users\\me> ssh.exe root@h", "root", "h", None),
        ("me@laptop:~$ ssh root@h", "root", "h", None),
        ("`ssh root@h`", "root", "h", None),
        ("```ssh root@h```", "root", "h", None),
        ("```bash\nssh root@h -p 22\n```\n", "root", "h", 22),
        ("```\n$ ssh root@h\n```", "root", "h", None),
        ("ssh\u00a0root@h\u200b\u00a0-p\u00a022", "root", "h", 22),
        ("ssh –p 22 —l root h", "root", "h", 22),
        ("ssh root@h  # my machine", "root", "h", None),
        ("ssh.exe root@h", "root", "h", None),
        ("C:\\Windows\\System32\\OpenSSH\\ssh.exe root@h", "root", "h", None),
        ('"C:\\Program Files\\OpenSSH\\ssh.exe" root@h', "root", "h", None),
        ("sudo ssh root@h", "root", "h", None),
        # Prime Intellect's API
        ('["root@1.2.3.4 -p 1234"]', "root", "1.2.3.4", 1234),
        ("['root@1.2.3.4 -p 1234', None]", "root", "1.2.3.4", 1234),
        ("ssh -A -T -N root@h -L 8080:localhost:8080", "root", "h", None),
    ],
)
def test_user_host_and_port(text: str, user: str | None, host: str, port: int | None) -> None:
    command = parse(text)
    assert (command.user, command.host, command.port) == (user, host, port)


def test_keys_and_proxies_become_lines_of_ssh_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "/keys")
    command = parse(
        'ssh -i "$KEYS/my key" -i ${KEYS}/b -J a@b,c@d:22 -b 10.0.0.2 -c aes256-ctr -m hmac-sha2-256 root@h'
    )
    assert command.options == (
        'IdentityFile "/keys/my key"', "IdentityFile /keys/b", "ProxyJump a@b,c@d:22", "BindAddress 10.0.0.2",
        "Ciphers aes256-ctr", "MACs hmac-sha2-256",
    )  # fmt: skip
    assert parse("ssh -o IdentitiesOnly=yes -o CertificateFile=/c -o HostKeyAlias=x h").options == (
        "IdentitiesOnly yes",
        "CertificateFile /c",
        "HostKeyAlias x",
    )


def test_the_path_of_a_key_can_be_written_in_many_forms(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(environment)
    me = pwd.getpwuid(os.getuid())
    forms = {
        "-i ~/.ssh/key": f"{environment}/.ssh/key",
        '-i "~/.ssh/key"': f"{environment}/.ssh/key",
        "-i $HOME/key": f"{environment}/key",
        "-i '${HOME}/key'": f"{environment}/key",
        "-o 'IdentityFile=\"$HOME/key\"'": f"{environment}/key",
        f"-i ~{me.pw_name}/key": f"{me.pw_dir}/key",
        "-i key.pem": f"{environment}/key.pem",
        "-ikey.pem": f"{environment}/key.pem",
        "-i %d/key": "%d/key",
        "-i 'my key'": f'"{environment}/my key"',
        "-i my\\ key": f'"{environment}/my key"',
        "-i none": "none",
    }
    assert {form: parse(f"ssh {form} h").options for form in forms} == {
        form: (f"IdentityFile {path}",) for form, path in forms.items()
    }
    assert parse("ssh -F ~/cfg h").config_file == f"{environment}/cfg"
    assert parse("ssh -F none h").config_file == "none"
    assert parse("ssh -o IdentityAgent=SSH_AUTH_SOCK h").options == ("IdentityAgent SSH_AUTH_SOCK",)


def test_a_proxy_command_is_kept_as_the_user_wrote_it() -> None:
    command = parse("""ssh -o "ProxyCommand=nc -X 5 %h %p | tee 'a;b'" -o ProxyJump=c root@h""")
    assert command.options == ("ProxyCommand nc -X 5 %h %p | tee 'a;b'",)
    assert command.ignored == {"-o ProxyJump=c": "the first one counts, as with ssh"}


def test_the_address_family_is_chosen_as_by_ssh() -> None:
    assert parse("ssh -4 -6 h").options == ("AddressFamily inet6",)
    assert parse("ssh -4 -o AddressFamily=inet6 h").options == ("AddressFamily inet",)


@pytest.mark.parametrize(("option", "seconds"), [("60", 60), ("1m30", 90), ("2H", 7200)], ids=str)
def test_the_connect_timeout_of_the_command_is_kept(option: str, seconds: float) -> None:
    assert parse(f"ssh -o ConnectTimeout={option} h").connect_timeout == seconds
    assert parse("ssh h").connect_timeout is None


@every(
    [
        ("-A", "forwards no agent"),
        ("-X", "forwards no agent, display"),
        ("-o ForwardAgent=yes", "forwards no agent"),
        ("-L 8080:localhost:8080", "forwards ports itself"),
        ("-D 1080", "forwards ports itself"),
        ("-R 1:h:2", "forwards ports itself"),
        ("-N", "terminal"),
        ("-t", "terminal"),
        ("-o RequestTTY=force", "terminal"),
        ("-v", "reports errors itself"),
        ("-q", "reports errors itself"),
        ("-E log", "reports errors itself"),
        ("-C", "no effect"),
        ("-o ServerAliveInterval=60", "keeps connections alive"),
        ("-o SetEnv=A=b", "no variables"),
        ("-o PasswordAuthentication=yes", "keys only"),
        ("-o PreferredAuthentications=publickey,password", "keys only"),
        ("-o UserKnownHostsFile=/dev/null", "verifies the host key anyway"),
        ("-o StrictHostKeyChecking=no", "verifies the host key anyway"),
        ("-o RemoteCommand=none", "no effect"),
    ],
)
def test_an_option_that_pi_ignores_is_named_with_the_reason(option: str, why: str) -> None:
    """Security check 14: also options that would weaken the check of the host key."""
    command = parse(f"ssh {option} root@h")
    assert list(command.ignored) == [option]
    assert why in command.ignored[option]
    assert command.options == ()


def test_a_second_value_is_reported_as_ignored() -> None:
    assert list(parse("ssh -tt -p 22 -p 23 root@h -l me").ignored) == ["-t", "-p 23", "-l me"]
    assert parse("ssh -p 22 -p 22 root@h -l root").ignored == {}
    assert parse("sudo ssh h").ignored == {"sudo": "pi logs in as you, with your keys"}


# What `ssh -G` of OpenSSH 9.2 and 10.0 prints without a configuration, but for lists of algorithms.
DEFAULTS = re.findall(
    r"\S+",
    """
    AddressFamily=any BatchMode=no BindInterface=none CanonicalizeFallbackLocal=yes CanonicalizeHostname=false
    CanonicalizeMaxDots=1 CanonicalizePermittedCNAMEs=none CheckHostIP=no Compression=no ConnectTimeout=none
    ConnectionAttempts=1 ControlMaster=false ControlPersist=no EnableSSHKeysign=no ClearAllForwardings=no
    ExitOnForwardFailure=no FingerprintHash=SHA256 ForwardX11=no GatewayPorts=no GSSAPITrustDns=no HashKnownHosts=no
    IdentitiesOnly=no KnownHostsCommand=none LocalCommand=none PermitLocalCommand=no PKCS11Provider=none
    ProxyCommand=none ProxyJump=none ProxyUseFdpass=no ProxyUseFdpass=false PubkeyAuthentication=true
    RefuseConnection=none RemoteCommand=none RequestTTY=auto RequiredRSASize=1024 RevokedHostKeys=none
    SecurityKeyProvider=internal SessionType=default Tag=none Tunnel=false UpdateHostKeys=true
""",
)


@every(DEFAULTS)
def test_the_default_value_of_an_option_is_accepted(setting: str) -> None:
    command = parse(f"ssh -o {setting} root@h")
    assert command.host == "h"
    assert set(command.ignored.values()) <= set(ssh_options.IGNORED_KEYWORDS.values())


PASTED = {  # lines that programs print or write, as they are
    "gcloud --dry-run": (
        "/usr/bin/ssh -t -i /home/u/.ssh/google_compute_engine -o CheckHostIP=no -o HashKnownHosts=no "
        "-o HostKeyAlias=compute.123 -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes "
        '-o UserKnownHostsFile=/home/u/.ssh/google_compute_known_hosts -o "ProxyCommand /usr/bin/python3 -S -W ignore '
        "/usr/lib/google-cloud-sdk/lib/gcloud.py compute start-iap-tunnel dc1 %p --listen-on-stdin --project=p "
        '--zone=us-central1-a --verbosity=warning" -o ProxyUseFdpass=no u@compute.123'
    ),
    "gcloud without a tunnel": (
        "/usr/bin/ssh -t -i /home/u/.ssh/google_compute_engine -o CheckHostIP=no -o HashKnownHosts=no "
        "-o HostKeyAlias=compute.123 -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes "
        "-o UserKnownHostsFile=/home/u/.ssh/google_compute_known_hosts u@34.1.2.3"
    ),
    "aws ssm": (
        'ssh -i key.pem ubuntu@i-0123456789abcdef0 -o ProxyCommand="sh -c \\"aws ssm start-session --target %h '
        "--document-name AWS-StartSSHSession --parameters 'portNumber=%p'\\\"\""
    ),
    "aws ec2-instance-connect": (
        "ssh -i key.pem ubuntu@i-0123456789abcdef0 "
        "-o ProxyCommand='aws ec2-instance-connect open-tunnel --instance-id i-0123456789abcdef0'"
    ),
    "az ssh config": "ssh -F ./sshconfig rg-vm",
    "az ssh vm": (
        "ssh u@20.1.2.3 -i /tmp/aadsshcert/id_rsa -o CertificateFile=/tmp/aadsshcert/id_rsa.pub-aadcert.pub "
        "-o PubkeyAcceptedKeyTypes=rsa-sha2-256-cert-v01@openssh.com,rsa-sha2-256 -o StrictHostKeyChecking=no"
    ),
    "brev": "ssh -F ~/.brev/ssh_config my-gpu",
    "lima": (
        'ssh -o IdentityFile="/home/u/.lima/_config/user" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null '
        "-o NoHostAuthenticationForLocalhost=yes -o PreferredAuthentications=publickey -o Compression=no "
        "-o BatchMode=yes -o IdentitiesOnly=yes -o GSSAPIAuthentication=no "
        '-o Ciphers="^aes128-gcm@openssh.com,aes256-gcm@openssh.com" -o User=u -o ControlMaster=auto '
        '-o ControlPath="/home/u/.lima/default/ssh.sock" -o ControlPersist=yes -p 60022 127.0.0.1'
    ),
    "coder": (
        "ssh -o ConnectTimeout=0s -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "
        '-o ProxyCommand="/usr/bin/coder --global-config /home/u/.config/coderv2 ssh --stdio --ssh-host-prefix coder. '
        '%h" coder.gpu'
    ),
    "devpod": (
        "ssh -o ForwardAgent=yes -o LogLevel=error -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
        '-o HostKeyAlgorithms=rsa-sha2-256,rsa-sha2-512,ssh-rsa -o ProxyCommand="/usr/bin/devpod ssh --stdio '
        '--context default --user vscode gpu" -o User=vscode gpu.devpod'
    ),
    "old guides": "ssh -o Protocol=2 -o UseRoaming=no -o RSAAuthentication=yes -o PubkeyAcceptedKeyTypes=+ssh-rsa h",
}


@every(sorted(PASTED))
def test_a_line_that_a_program_prints_is_accepted(program: str) -> None:
    assert parse(PASTED[program]).host


def test_a_key_of_i_that_is_not_there_is_left_out_as_by_ssh_and_one_of_an_option_is_not(environment: Path) -> None:
    missing, there, public = environment / "missing", environment / "with blank", environment / "held"
    there.touch()
    Path(f"{public}.pub").touch()
    command = parse(f"ssh -i {missing} -i '{there}' -i {public} -o IdentityFile={missing}2 h")
    kept = (f'IdentityFile "{there}"', f"IdentityFile {public}", f"IdentityFile {missing}2")
    assert (command.missing_keys, command.effective_options) == ([str(missing)], kept)
    assert command.arguments() == ["-i", str(missing), *(word for line in kept for word in ("-o", line)), "h"]
    assert parse(f"ssh -i {missing} -o IdentityFile={missing} h").missing_keys == []
    missing.touch()
    assert command.missing_keys == []


def is_handled(option: str, named: str) -> bool:
    """Return whether an option changes the parsed command, is a default, or is refused by name with a hint."""
    try:
        return parse(f"ssh {option} h") != parse("ssh h") or option.removeprefix("-o ") in DEFAULTS
    except BadUsage as error:
        return named in error.message and error.hint is not None


@every([*LETTERS, "Z"])
def test_every_letter_is_honoured_or_ignored_or_refused_by_name(letter: str) -> None:
    value = {"p": " 22", "o": " Port=22", "J": " j", "l": " me"}.get(letter, " x")
    assert is_handled(f"-{letter}{value if letter in ssh_options.WITH_ARGUMENT else ''}", f"`-{letter}`")


@every([(keyword, value) for keyword in [*KEYWORDS, "NoSuchKeyword"] for value in ("yes", "none", "22", "/x")])
def test_every_keyword_is_honoured_or_ignored_or_refused_by_name(keyword: str, value: str) -> None:
    assert is_handled(f"-o {keyword}={value}", f"`-o {keyword}={value}`")


@every(sorted(ssh_options.HONOURED))
def test_an_honoured_option_is_obeyed_by_the_login(keyword: str) -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in LOGIN_MODULES)
    assert keyword in BY_SSH_ITSELF or f'"{keyword.lower()}"' in source


@every(
    [
        ("", "", "no host"),
        ("ssh", "", "no host"),
        ("ssh -p 22", "", "no host"),
        # shell syntax
        ("ssh root@h rm -rf /", "rm -rf /", "`rm` would run a command"),
        ("ssh root@h -- -la", "-la", "`-la` would run a command"),
        ("ssh root@h -- ls", "ls", "`ls` would run a command"),
        ("ssh -p 22 root@h 'a b' c", "'a b' c", "`a b` would run a command"),
        ("ssh root@h; reboot", "; reboot", "`;` begins a second command"),
        ("ssh root@h && x", "&& x", "`&` begins a second command"),
        ("ssh root@h | tee log", "| tee log", "`|` begins a second command"),
        ("ssh root@h > log", ">", "`>` is shell syntax"),
        ("ssh -i ~/.ssh/*.pem root@h", "*", "`*` is shell syntax"),
        ("ssh $(hostname)", "$(hostname)", "`$(hostname)` is shell syntax"),
        ('ssh "root@$(id)"', "$(id)", "`$(id)` is shell syntax"),
        ("ssh root@`id`", "`id`", "is shell syntax"),
        ("ssh root@${IP:-h}", "${IP:-h}", "is shell syntax"),
        ("ssh root@h -p $1", "$1", "is shell syntax"),
        ("ssh root@h\nreboot", " reboot", "a second line"),
        ("ssh root@a\nssh root@b", " ssh root@b", "a second line"),
        ("ssh root@h \\", "\\", "follows the backslash"),
        ("ssh -i $NO_SUCH/key root@h", "$NO_SUCH", "`$NO_SUCH` is not set"),
        ("ssh -i '${NO_SUCH}/key' root@h", "-i '${NO_SUCH}/key'", "`$NO_SUCH` is not set"),
        ("ssh -o IdentityFile='$NO_SUCH' h", "-o IdentityFile='$NO_SUCH'", "`$NO_SUCH` is not set"),
        ("ssh -i ~no_such_user/key root@h", "-i ~no_such_user/key", "no user `no_such_user`"),
        ("ssh 'root@h", "'root@h", "quote is not closed"),
        ("ssh ro'ot@h", "'ot@h", "quote is not closed"),
        ("ssh 'root@h\x1b[2J'", " ", "control character"),
        ("ssh 'root@h\n-o' x", " ", "control character"),
        ("ssh root@<IP>", "<IP>", "`<IP>` is a placeholder"),
        # other programs than ssh
        ("mosh root@h", "mosh", "`mosh` comes before `root@h`"),
        ("sshpass -p secret ssh root@h", "sshpass -p ***", "comes before `ssh`"),
        ("TERM=xterm ssh root@h", "TERM=xterm", "comes before `ssh`"),
        ("gcloud compute ssh vm", "gcloud compute", "comes before `ssh`"),
        ("sudo -i ssh root@h", "sudo", "comes before `root@h`"),
        ("me@laptop:~$ whoami", "me@laptop:~$", "not a host name"),
        ("null", "null", "the machine has no ssh command yet"),
        ("[]", "[]", "the machine has no ssh command yet"),
        ('["root@1.2.3.4", "root@1.2.3.5"]', '["root@1.2.3.4", "root@1.2.3.5"]', "list of 2 machines"),
        ('["root@1.2.3.4", ', '["root@1.2.3.4",', "part of a list"),
        # values
        ("ssh -p abc root@h", "-p abc", "not a port"),
        ("ssh -p 70000 root@h", "-p 70000", "not a port"),
        ("ssh -p 0 root@h", "-p 0", "not a port"),
        ("ssh -p ２２ root@h", "-p ２２", "not a port"),
        ("ssh root@h -p", "-p", "`-p` needs a value"),
        ("ssh -i '' root@h", "-i ''", "`-i` needs a value"),
        ("ssh root@h:99999", "root@h:99999", "not a port"),
        ("ssh --port 22 root@h", "--port", "ssh has no option `--port`"),
        ("ssh -o PermitLocalCommand=yes root@h", "-o PermitLocalCommand=yes", "`-o PermitLocalCommand=yes`"),
        ("ssh -o LocalCommand root@h", "-o LocalCommand", "Key=value"),
        ("ssh -o RemoteCommand=tmux h", "-o RemoteCommand=tmux", "would run a command"),
        ("ssh -o PubkeyAuthentication=no h", "-o PubkeyAuthentication=no", "not one of yes"),
        ("ssh -o PreferredAuthentications=password h", "-o PreferredAuthentications=password", "keys only"),
        ("ssh -o ConnectTimeout=soon h", "-o ConnectTimeout=soon", "not a number of seconds"),
        ("ssh -o 'Ciphers=a b' h", "-o 'Ciphers=a b'", "not one word"),
        ("ssh -J 'a b' h", "-J 'a b'", "USER@HOST:PORT"),
        ("ssh -J 'a;b' h", "-J 'a;b'", "USER@HOST:PORT"),
        ("ssh -J -oProxyCommand=x h", "-J -oProxyCommand=x", "USER@HOST:PORT"),
        ("ssh -W h:22 root@j", "-W h:22", "`-W`: it forwards to another host"),
        ("ssh -i C:\\Users\\me\\key root@h", "C:\\Users\\me\\key", "a Windows path"),
        ("ssh -i 'C:\\Users\\me\\key' root@h", "-i 'C:\\Users\\me\\key'", "a Windows path"),
        ("ssh ssh://h:x", "ssh://h:x", "ssh://USER@HOST:PORT"),
        ("ssh ssh://h/path", "ssh://h/path", "ssh://USER@HOST:PORT"),
        ("ssh root@h:/tmp/file", "root@h:/tmp/file", "not a host name"),
        ("ssh root@", "root@", "not a host name"),
        ("ssh @h", "@h", "not a user name"),
        ("ssh root@1::2::3", "root@1::2::3", "not a host name"),
        ("ssh my–host", "my–host", "not a host name"),
        ("ssh -- -oProxyCommand=x", "-oProxyCommand=x", "not a host name"),
        ("ssh -l -x h", "-l -x", "not a user name"),
    ],
)
def test_a_part_that_cannot_be_honoured_is_refused_and_marked(text: str, marked: str, named: str) -> None:
    with pytest.raises(BadUsage) as raised:
        parse(text)
    assert raised.value.message.startswith("cannot use this ssh command: ")
    assert named in raised.value.message
    assert raised.value.hint
    if marked:
        line, carets = raised.value.excerpt.split("\n")
        assert "".join(sign for sign, caret in zip(line, carets, strict=False) if caret == "^") == marked


def test_of_a_long_command_the_part_at_fault_is_shown() -> None:
    with pytest.raises(BadUsage) as raised:
        parse(f"ssh -i /{'a' * 200} root@h; reboot {'b' * 200}")
    line, carets = raised.value.excerpt.split("\n")
    assert len(line) <= 78
    assert line[carets.index("^") :].startswith("; reboot")
    assert line.startswith("…")
    assert line.endswith("…")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("ssh root@1.2.3.4 -p 22 -i ~/.ssh/key -A", "ssh root@1.2.3.4 -p 22 -i ~/.ssh/key -A"),
        (" root@1.2.3.4 -p 22\n", "root@1.2.3.4 -p 22"),
        ("ssh -i key.pem root@h", "ssh -l root -i {home}/key.pem h"),
        ("ssh -i $HOME/key root@h -p 22", "ssh -p 22 -l root -i {home}/key h"),
        ("ssh -F cfg pod -o ConnectTimeout=60", "ssh -F {home}/cfg -o 'ConnectTimeout 60' pod"),
        ("ssh –p 22 h", "ssh -p 22 h"),
    ],
)
def test_a_remembered_command_means_the_same_in_another_folder(
    environment: Path, monkeypatch: pytest.MonkeyPatch, text: str, kept: str
) -> None:
    monkeypatch.chdir(environment)
    arguments = parse(text).arguments()
    remembered = lasting(text)
    assert remembered == kept.format(home=environment)
    monkeypatch.chdir("/")
    assert (parse(remembered).arguments(), lasting(remembered)) == (arguments, remembered)
