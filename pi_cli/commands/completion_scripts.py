"""What shells run for Tab: scripts that ask pi for what may follow, one candidate a line, TAB, and its description.

They change nothing but the completion of `pi`: Typer's scripts also set a menu for all commands of zsh and PowerShell.
The scripts that Typer installed for earlier versions are still answered.
"""

ASK = "_PI_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args _TYPER_COMPLETE_ARGS"

# Descriptions are shown in lists only (COMP_TYPE `?`, `!` and `@`): for Tab itself, bash inserts what it is given.
# `nosort` is missing in bash 4.3 and older.
BASH = f"""\
_pi_completion() {{
    local line rest longest=0
    local -a values=() lines=()
    while IFS= read -r line; do
        values+=("${{line%%$'\\t'*}}")
        lines+=("$line")
        line="${{line%%$'\\t'*}}"
        (( ${{#line}} > longest )) && longest=${{#line}}
    done < <({ASK}="${{COMP_LINE:0:COMP_POINT}}" command pi 2>/dev/null)
    COMPREPLY=("${{values[@]}}")
    (( ${{#values[@]}} > 1 )) || return 0
    case "${{COMP_TYPE:-9}}" in 63 | 33 | 64) ;; *) return 0 ;; esac
    COMPREPLY=()
    for line in "${{lines[@]}}"; do
        rest="${{line#*$'\\t'}}"
        [[ "$line" == *$'\\t'* ]] || rest=""
        printf -v line '%-*s  %s' "$longest" "${{line%%$'\\t'*}}" "${{rest:+($rest)}}"
        [[ "$rest" ]] || line="${{line%% *}}"
        COMPREPLY+=("${{line:0:${{COLUMNS:-80}}-2}}")
    done
}}
complete -o default -o nosort -F _pi_completion pi 2>/dev/null || complete -o default -F _pi_completion pi
"""

ZSH = f"""\
#compdef pi

_pi_completion() {{
    local line value
    local -a candidates
    for line in "${{(@f)$({ASK}="${{(j: :)words[1,CURRENT]}}" command pi 2>/dev/null)}}"; do
        [[ -n "$line" ]] || continue
        value="${{line%%$'\\t'*}}"
        candidates+=("${{value//:/\\\\:}}:${{${{line#"$value"}}#$'\\t'}}")
    done
    if (( $#candidates )); then
        _describe -V pi candidates
    else
        _files
    fi
}}

if [[ "${{funcstack[1]-}}" == _pi ]]; then
    _pi_completion "$@"
else
    compdef _pi_completion pi
fi
"""

FISH = f"""\
function __pi_completion
    set -l candidates (env {ASK}=(commandline -cp) pi 2>/dev/null)
    if test (count $candidates) -gt 0
        printf '%s\\n' $candidates
    else
        __fish_complete_path (commandline -ct)
    end
end
complete --command pi --no-files --keep-order --arguments '(__pi_completion)'
"""

POWERSHELL = """\
Register-ArgumentCompleter -Native -CommandName pi -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $Env:_PI_COMPLETE = "complete_powershell"
    $Env:_TYPER_COMPLETE_ARGS = $commandAst.ToString()
    $Env:_TYPER_COMPLETE_WORD_TO_COMPLETE = $wordToComplete
    pi | ForEach-Object {
        $value, $description = $_ -Split ":::"
        [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $description)
    }
    $Env:_PI_COMPLETE = ""
    $Env:_TYPER_COMPLETE_ARGS = ""
    $Env:_TYPER_COMPLETE_WORD_TO_COMPLETE = ""
}
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH, "powershell": POWERSHELL, "pwsh": POWERSHELL}
