"""Another machine has the address of the pod by now, and its server answers everything: it gets no byte of the key."""

import re

from tests.conftest import KEY, Pi
from tests.lab.openssh import OpensshPod, heard_by_thief, thief_on
from tests.openssh.at_work import start
from tests.until import until

PROMPT = "words that nobody else reads"
# Is it the model? Asked beside the login, of whoever is there: it has no key, and nothing that is made of one.
CHALLENGE = re.compile(r"GET /\.well-known/pi-model\?nonce=[0-9a-f]{64} HTTP/1\.1\s+Host: [0-9.:]+\s+")


def test_a_tenant_who_got_the_address_next_gets_nothing(pi: Pi, pod: OpensshPod) -> None:
    start(pi)
    [listed] = pi("list", "--json").json
    assert listed["url"] == f"http://{pod.address}:{listed['port']}/v1"
    assert pi("env", "q").out.startswith(f"export OPENAI_BASE_URL={listed['url']}\n")
    pod.check("kill -KILL $(grep -lz PI_MODEL_UID= /proc/[0-9]*/environ | cut -d/ -f3)")
    until(lambda: listed["port"] not in pod.listening())
    with thief_on(pod, listed["port"]):
        pod.new_host_key()
        for words in (["env", "q"], ["env", "q", "--json"], ["prompt", "q", PROMPT], ["check", "q"], ["forward", "q"]):
            result = pi(*words)
            assert (result.code, result.out) == (3, ""), result
            assert "its host key changed" in result.err
        pod.stop_sshd()
        gone = pi("env", "q")
        assert (gone.code, gone.out) == (3, "")
        rest = CHALLENGE.sub("", heard_by_thief(pod))
        assert rest == "", f"nothing else was sent, neither {KEY} nor {PROMPT}"
