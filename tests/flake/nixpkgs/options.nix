# The options of NixOS and home-manager that the modules set, with the types that they have there.
{ lib, pkgs }:
let
  inherit (lib) mkOption types;
  atom = types.nullOr (
    types.oneOf [
      types.bool
      types.int
      types.float
      types.str
      types.path
      types.package
    ]
  );
  optional = type: default: mkOption { inherit type default; };
  common = {
    nix.settings = optional (types.attrsOf (types.either atom (types.listOf atom))) { };
    warnings = optional (types.listOf types.str) [ ];
    assertions = optional (types.listOf types.raw) [ ];
  };
  merge = a: b: a // b // { nix = a.nix // b.nix or { }; };
  system = merge common {
    nix.enable = optional types.bool true;
    nix.package = optional types.package pkgs.nix;
    environment.systemPackages = optional (types.listOf types.package) [ ];
    environment.pathsToLink = optional (types.listOf types.str) [ ];
    nixpkgs.hostPlatform = optional types.str "x86_64-linux";
    nixpkgs.overlays = optional (types.listOf types.raw) [ ];
  };
in
{
  nixos = system // {
    environment = system.environment // {
      etc = optional (types.attrsOf types.raw) { };
    };
    systemd.tmpfiles.rules = optional (types.listOf types.str) [ ];
    systemd.services = optional (types.attrsOf types.raw) { };
    systemd.timers = optional (types.attrsOf types.raw) { };
    services.nginx.enable = optional types.bool false;
    services.nginx.virtualHosts = optional (types.attrsOf types.raw) { };
    networking.firewall.allowedTCPPorts = optional (types.listOf types.int) [ ];
    programs.ssh.package = optional types.package pkgs.openssh;
    users.users = optional (types.attrsOf types.raw) { };
    system.stateVersion = optional types.str "25.11";
  };
  home = merge common {
    nix.package = optional (types.nullOr types.package) null;
    home.packages = optional (types.listOf types.package) [ ];
    home.username = optional types.str "alice";
    home.homeDirectory = optional types.path "/home/alice";
    home.stateVersion = optional types.str "25.11";
  };
}
