# A stand-in for nixpkgs, with only as much of it as the project uses, so that the project can be evaluated without a network.
# Packages are derivations that can't be built; their environment has the arguments that they were made from.
{
  system ? builtins.currentSystem,
  overlays ? [ ],
  # The version of `pkgs.nix`.
  nixVersion ? "2.31.5",
}:
let
  small = import ./lib.nix;
  real = import ./real-lib;
  lib =
    if !builtins.pathExists ./real-lib then
      small
    # The real file sets need Nix 2.14 or newer.
    else if builtins ? readFileType then
      real
    else
      real // { inherit (small) fileset; };

  inherit (builtins) attrNames filter isAttrs isFunction listToAttrs removeAttrs;

  package =
    attrs:
    let
      outputs = attrs.outputs or [ "out" ];
      plain = removeAttrs attrs [
        "passthru"
        "meta"
        "env"
      ];
      made = derivation (
        {
          inherit system;
          name = "${attrs.pname}-${attrs.version}";
          builder = "/bin/sh";
        }
        // (attrs.env or { })
        // plain
        // {
          inherit outputs;
        }
      );
    in
    made
    // attrs.passthru or { }
    // {
      inherit (attrs) name;
      meta = attrs.meta or { };
      overrideAttrs = f: package (attrs // f attrs);
    }
    // (if attrs ? version then { inherit (attrs) version; } else { })
    # A caller can read these arguments, as with a real derivation.
    // builtins.intersectAttrs {
      nativeBuildInputs = null;
      buildInputs = null;
      shellHook = null;
    } attrs;

  named = attrs: package ({ name = "${attrs.pname}-${attrs.version}"; } // attrs);
  simple = name: package { inherit name; };

  # Since 2.26 a Nix consists of several libraries.
  nixOf =
    version:
    named {
      pname = "nix";
      inherit version;
      outputs = [
        "out"
        "dev"
        "man"
      ];
      passthru = if builtins.compareVersions version "2.26" >= 0 then { libs = { }; } else { };
    };

  base =
    listToAttrs (
      map (name: { inherit name; value = simple name; }) [
        "boehmgc"
        "boost"
        "cargo"
        "clippy"
        "hello"
        "installShellFiles"
        "nlohmann_json"
        "openssh"
        "pkg-config"
        "procps"
        "rustfmt"
        "sqlite"
        "strace"
        "util-linux"
      ]
    )
    // {
      inherit lib;
      stdenv = {
        hostPlatform = { inherit system; };
        buildPlatform.canExecute = _: true;
      };
      stdenvNoCC = self.stdenv // {
        mkDerivation = named;
      };
      rustPlatform = {
        bindgenHook = package { name = "rust-bindgen-hook"; };
        buildRustPackage =
          attrs:
          assert builtins.pathExists attrs.cargoLock.lockFile;
          named (removeAttrs attrs [ "cargoLock" ]);
      };
      runCommand =
        name: attrs: command:
        package (attrs // { inherit name command; });
      symlinkJoin = package;
      mkShell =
        attrs:
        package (
          { name = "nix-shell"; }
          // removeAttrs attrs [
            "inputsFrom"
            "packages"
          ]
          // {
            nativeBuildInputs = attrs.packages or [ ] ++ attrs.nativeBuildInputs or [ ];
            buildInputs = attrs.buildInputs or [ ] ++ attrs.inputsFrom or [ ];
          }
        );
      # This evaluates the configurations of the machines. The derivation has the test's script, and of each machine what is in
      # nix.conf and in /etc, and its timers. The packages, which take long, are evaluated for one of them.
      testers.runNixOSTest =
        test:
        let
          systemOf =
            module:
            (import ./nixos.nix {
              inherit lib;
              pkgs = self;
              modules = [ module ];
            }).checked;
          machine = systemOf test.nodes.machine;
          withoutPackages =
            _: module:
            let
              system = systemOf module;
            in
            {
              settings = removeAttrs system.nix.settings [ "plugin-files" ];
              services = attrNames system.systemd.services;
              inherit (system.systemd) timers;
              inherit (system.environment) etc;
            };
        in
        package {
          name = "vm-test-run-${test.name}";
          inherit (test) testScript;
          settings = builtins.toJSON machine.nix.settings;
          inherit (machine.environment) systemPackages;
          machines = builtins.toJSON (builtins.mapAttrs withoutPackages test.nodes);
        };

      nix = nixOf nixVersion;
      # nixpkgs does not have it; its own flake does.
      determinate-nix = nixOf "3.22.2pre20260812_0123abc";
      # As in nixpkgs, one was removed and one is insecure. Of the others, the plugin does not support one.
      nixVersions = {
        nix_2_8 = throw "nix_2_8 has been removed";
        nix_2_28 = nixOf "2.28.7";
        nix_2_31 = nixOf "2.31.5+1";
        nix_2_32 = nixOf "2.32.6";
        nix_2_34 = nixOf "2.34.8";
        nix_2_35 = nixOf "2.35.2" // {
          outPath = throw "Package ‘nix-2.35.2’ is marked as insecure, refusing to evaluate.";
        };
        latest = nixOf "2.34.8";
      };

      callPackage =
        file: overrides:
        let
          f = import file;
          wanted = builtins.functionArgs f;
          arguments = builtins.intersectAttrs wanted self // overrides;
          missing = filter (name: !(arguments ? ${name}) && !wanted.${name}) (attrNames wanted);
        in
        assert isFunction f;
        if missing != [ ] then
          throw "callPackage: ${toString file} wants '${builtins.head missing}', which the stand-in for nixpkgs does not have"
        else
          f arguments;
    };

  self = builtins.foldl' (pkgs: overlay: pkgs // overlay self pkgs) base overlays;
in
assert isAttrs lib;
self
