#include "cli/command.h"
#include "core/error.h"
#include "core/text.h"
#include "trainers/recipes.h"

namespace zoo {

namespace {

/// The words that may follow a command: its flags, and its verbs.
std::vector<std::string> words_of(const CLI::App& app) {
  std::vector<std::string> words;
  for (const CLI::App* verb : app.get_subcommands({})) words.push_back(verb->get_name());
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) words.push_back("--" + name);
  }
  for (const char* flag : {"-q", "-v"}) words.emplace_back(flag);
  return words;
}

std::string model_words() {
  std::vector<std::string> names;
  for (const Recipe& recipe : recipes()) {
    names.push_back(recipe.name);
    if (!recipe.alias.empty()) names.push_back(recipe.alias);
  }
  return join(names, " ");
}

std::string bash_script(const CLI::App& program) {
  std::string cases;
  std::vector<std::string> commands;
  for (const CLI::App* command : program.get_subcommands({})) {
    commands.push_back(command->get_name());
    std::vector<std::string> words = words_of(*command);
    for (const CLI::App* verb : command->get_subcommands({})) {
      for (const std::string& word : words_of(*verb)) words.push_back(word);
    }
    cases += "    " + command->get_name() + ") words=\"" + join(words, " ") + "\" ;;\n";
  }
  return "_zoo() {\n"
         "  local current=\"${COMP_WORDS[COMP_CWORD]}\" previous=\"${COMP_WORDS[COMP_CWORD-1]}\" words=\"\"\n"
         "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
         "    COMPREPLY=($(compgen -W \"" +
         join(commands, " ") +
         " --version --help\" -- \"$current\"))\n"
         "    return\n"
         "  fi\n"
         "  case \"$previous\" in\n"
         "    --model) COMPREPLY=($(compgen -W \"" +
         model_words() +
         "\" -- \"$current\")); return ;;\n"
         "    --device) COMPREPLY=($(compgen -W \"auto cpu cuda\" -- \"$current\")); return ;;\n"
         "    --precision) COMPREPLY=($(compgen -W \"fp32 bf16\" -- \"$current\")); return ;;\n"
         "    completion) COMPREPLY=($(compgen -W \"bash zsh\" -- \"$current\")); return ;;\n"
         "  esac\n"
         "  case \"${COMP_WORDS[1]}\" in\n" +
         cases +
         "  esac\n"
         "  if [[ \"$current\" == -* || \"${COMP_WORDS[1]}\" == data ]]; then\n"
         "    COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
         "  fi\n"
         "  [ \"${#COMPREPLY[@]}\" -gt 0 ] || COMPREPLY=($(compgen -f -- \"$current\"))\n"
         "}\n"
         "complete -o filenames -F _zoo zoo\n";
}

}  // namespace

Command completion_command(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("completion", "Print the completion script of a shell: bash or zsh");
  auto shell = std::make_shared<std::string>();
  app->add_option("SHELL", *shell, "bash or zsh")->type_name("");
  return {app, [shell, &parent] {
            require_choice("completion", *shell, {"bash", "zsh"});
            const bool zsh = *shell == "zsh";
            print_text((zsh ? "#compdef zoo\nautoload -U +X bashcompinit && bashcompinit\n" : "") +
                       bash_script(parent));
            return 0;
          }};
}

}  // namespace zoo
