"""pi's own looks at a model: requests that vLLM need not write into its log. Pure."""

from dataclasses import replace

from pi_cli.planning.plan import Plan
from pi_cli.vllm import vllm_arguments
from pi_cli.vllm.abilities import Vllm

# The survey asks for the first two each time, and the guard (`remote/require_key.py`) answers the third.
ROUTES = ("/health", "/metrics", "/.well-known/pi-model")
OPTION = "--disable-access-log-for-endpoints"  # since vLLM 0.16; for an older one, `pi logs` leaves the lines out


def unlogged(plan: Plan, vllm: Vllm) -> Plan:
    """Return a plan whose vLLM does not log pi's looks, if it is sure to have the option.

    The user's own arguments stay unchanged.
    """
    vllm = vllm.for_model(plan.min_vllm)
    has_option = (vllm.is_own or vllm.is_certain) and OPTION in vllm.abilities.option_names
    given = {vllm_arguments.name_of(group[0]) for group in vllm_arguments.groups(plan.arguments)}
    if not plan.is_complete or not has_option or OPTION in given:
        return plan
    words = (OPTION, ",".join(ROUTES))
    return replace(plan, arguments=(*plan.arguments, *words), origins=(*plan.origins, "pi", "pi"))
