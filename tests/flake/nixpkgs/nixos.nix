# A stand-in for the evaluation of a system: `kind` is nixos or home.
{
  lib,
  pkgs,
  modules,
  kind ? "nixos",
  specialArgs ? { },
}:
let
  result = lib.evalModules {
    modules = [ { options = (import ./options.nix { inherit lib pkgs; }).${kind}; } ] ++ modules;
    specialArgs = { inherit pkgs; } // specialArgs;
  };
  failed = builtins.filter (one: !one.assertion) result.config.assertions;
in
result
// {
  # The configuration, if no assertion fails; a build of the system checks them first.
  checked =
    if failed != [ ] then throw "Failed assertions: ${(builtins.head failed).message}" else result.config;
}
