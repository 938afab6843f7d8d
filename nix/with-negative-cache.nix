# The dev shell `shell`, in which Nix loads the plugin and takes its flags, and with the companion program.
pkgs: shell:
let
  inherit (import ./. { inherit pkgs; }) bundle shims;
  pluginFile = "${bundle}/${bundle.pluginFile}";
in
if !(shell ? overrideAttrs) then
  throw ''
    withNegativeCache takes the packages of nixpkgs and a shell as pkgs.mkShell makes it: withNegativeCache pkgs
    (pkgs.mkShell { … })''
else
  shell.overrideAttrs (old: {
    # The shims come first, so that PATH has them before a Nix of the shell.
    nativeBuildInputs = [ shims ] ++ old.nativeBuildInputs or [ ];
    # This runs before the shell's own hook, which may end in `exec zsh`. In NIX_CONFIG the last line wins. So the setting goes
    # before the lines that are there, where they can switch it off; and the plugin goes behind them, where no `plugin-files`
    # of theirs can undo it. Other plugins stay: Nix up to 2.32 can add one to them (`extra-plugin-files`), and Nix from 2.20 on
    # can print which they are.
    shellHook = ''
      case ''${NIX_CONFIG-} in
        *${pluginFile}*) ;;
        *)
          if plugin_files=$(nix --extra-experimental-features nix-command config show plugin-files 2>/dev/null); then
            plugin_files="plugin-files = $plugin_files"
          else
            plugin_files="extra-plugin-files ="
          fi
          export NIX_CONFIG="negative-cache = true"$'\n'"''${NIX_CONFIG-}"$'\n'"$plugin_files ${pluginFile}"
          unset plugin_files
          ;;
      esac
    ''
    + old.shellHook or "";
  })
