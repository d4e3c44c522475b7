#include "operator/plugin/arguments.h"

#include <map>

namespace tallygate::plugin {

const char kHelp[] = R"(What Tallygate does in this cluster, and a hand on it.

  kubectl tallygate status                 operators, who leads, sidecars by version, tenants by state, what is wrong
  kubectl tallygate usage TENANT [--watch] limits, what of them is used, the balance
  kubectl tallygate why TENANT             why its requests may be refused
  kubectl tallygate suspend TENANT         refuses all of its requests with 403, from now on (spec.suspend)
  kubectl tallygate resume TENANT
  kubectl tallygate credit TENANT AMOUNT --reason TEXT [--currency GBP]
                                           credits the wallet by hand, below zero debits it; kept in the audit log with
                                           your name. Repeat it with the --key that it printed if the answer was lost
  kubectl tallygate check [--pre]          is the cluster fit for it; with --pre before it is installed
  kubectl tallygate uninstall [--yes]      lets go of what would keep objects from being deleted; then `helm uninstall`

TENANT is NAMESPACE/NAME, or NAME in the namespace of -n.

  -n, --namespace NAME         namespace of TENANT; else the context's
      --system-namespace NAME  where the operator is; tallygate-system
  -o, --output json            one document for programs
      --context NAME, --kubeconfig FILE   as kubectl's
      --token-secret NAME      Secret of the operator's namespace whose `token` the operator's API takes, with scope
                               admin; tallygate-cli

Ends with 0 where all is well, with 1 where something is wrong or could not be done, with 64 where the command is none.
)";

Result<Arguments> parse(int argc, const char* const* argv) {
  Arguments out;
  std::string output;
  const std::map<std::string, std::string*> values{
      {"-n", &out.name_space},        {"--namespace", &out.name_space}, {"--system-namespace", &out.system_namespace},
      {"-o", &output},                {"--output", &output},            {"--context", &out.context},
      {"--kubeconfig", &out.kubeconfig}, {"--reason", &out.reason},     {"--currency", &out.currency},
      {"--key", &out.key},            {"--token-secret", &out.token_secret}};
  const std::map<std::string, bool*> switches{{"--watch", &out.watch}, {"-w", &out.watch}, {"--yes", &out.yes},
                                              {"-y", &out.yes},        {"--pre", &out.pre}, {"--help", &out.help},
                                              {"-h", &out.help}};
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const size_t equals = word.starts_with("--") ? word.find('=') : std::string::npos;
    const std::string name = word.substr(0, equals);
    if (const auto flag = switches.find(name); flag != switches.end() && equals == std::string::npos) {
      *flag->second = true;
    } else if (const auto value = values.find(name); value != values.end()) {
      if (equals == std::string::npos && i + 1 == argc) return fail(Errc::kInvalid, name + " needs a value");
      *value->second = equals == std::string::npos ? argv[++i] : word.substr(equals + 1);
    } else if (word.size() > 1 && word[0] == '-' && (word[1] < '0' || word[1] > '9')) {  // an amount may be below zero
      return fail(Errc::kInvalid, "there is no flag " + name);
    } else if (out.command.empty()) {
      out.command = word;
    } else {
      out.operands.push_back(word);
    }
  }
  if (!output.empty() && output != "json") return fail(Errc::kInvalid, "--output knows json only");
  out.json = output == "json";
  return out;
}

}  // namespace tallygate::plugin
