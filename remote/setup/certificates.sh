# shellcheck shell=bash
# Certificates: those that programs trust, and what is wrong with that of a server. Sourced by `pod_setup.sh`.

fewest_certificates=20 # a store with less is not that of a distribution

# uv and Python have lists of their own, without what a network that inspects TLS has added to the machine's store. uv,
# httpx and requests read these variables; a machine or a user that sets them has the last word.
use_the_systems_certificates() {
  local store="$machine_root/etc/ssl/certs/ca-certificates.crt" count
  count="$(grep -cs 'BEGIN CERTIFICATE' "$store" || true)"
  if [[ -z "${SSL_CERT_FILE:-}${SSL_CERT_DIR:-}${REQUESTS_CA_BUNDLE:-}${CURL_CA_BUNDLE:-}" ]] \
    && ((${count:-0} >= fewest_certificates)); then
    export SSL_CERT_FILE="$store" REQUESTS_CA_BUNDLE="$store"
  fi
}

# Print what is wrong with the certificate of a server, from the output of curl, uv, pip or apt; fail if it is not that.
certificate_trouble() {
  local text="${1,,}" host="$2"
  local named="notvalidforname|not valid for (the )?name|no alternative certificate subject|hostname mismatch"
  local timed="certificate (has |is )?expired|peer certificate: (expired|notvalidyet)|not yet (valid|activated)"
  local unknown="invalid peer certificate|unknown ?issuer|issuer is unknown|certificate is not trusted|unknown ca"
  named+="|does(n't| not) match|certificate is valid for"
  timed+="|not valid yet|expired certificate"
  unknown+="|ssl certificate problem|certificate.verif|sslcertverif|unable to get (local )?issuer|self.signed certificate"
  unknown+="|curl: \(60\)"
  if [[ ! "$text" =~ $named|$timed|$unknown ]]; then return 1; fi
  if [[ "$text" =~ $named ]]; then
    echo "the certificate of $host is for another name: another server answers in its place"
  elif [[ "$text" =~ $timed ]]; then
    echo "the certificate of $host is not valid at $(date -u '+%F %R') UTC: it has expired," \
      "or the clock of this machine is wrong"
  else
    echo "the certificate of $host is not trusted by this machine: its network seems to inspect TLS. Put the" \
      "certificate of its CA into /usr/local/share/ca-certificates (NAME.crt), run update-ca-certificates as root, then" \
      "setup again; or name a file of certificates with SSL_CERT_FILE in ~/.pi/env"
  fi
}
