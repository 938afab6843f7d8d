# A dev shell like `shell` in which Nix has the plugin, the plugin's flags and the companion program.
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
    # First, so that the shims come before a Nix of the shell.
    nativeBuildInputs = [ shims ] ++ old.nativeBuildInputs or [ ];
    # First, as a hook may end in `exec zsh`. In NIX_CONFIG the last line wins: the setting goes before what is there, so
    # that it can be switched off; the plugin goes behind, as `plugin-files` would undo it. Other plugins stay: up to 2.32
    # Nix can add one to them, and from 2.20 on it says which they are.
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
