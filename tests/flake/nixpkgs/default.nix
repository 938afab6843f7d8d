# A stand-in for nixpkgs: as much of it as the project uses, so that it can be evaluated without a network. Packages are
# derivations that have what they were made of in their environment, and can't be built.
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
    # The real file sets need Nix 2.14.
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
    # The arguments can be asked for, as those of a real derivation.
    // builtins.intersectAttrs {
      nativeBuildInputs = null;
      buildInputs = null;
      shellHook = null;
    } attrs;

  named = attrs: package ({ name = "${attrs.pname}-${attrs.version}"; } // attrs);
  simple = name: package { inherit name; };

  # Since 2.26 in several libraries.
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
        "pkg-config"
        "rustfmt"
        "sqlite"
      ]
    )
    // {
      inherit lib;
      stdenv = {
        hostPlatform = {
          inherit system;
          isLinux = builtins.elem system lib.platforms.linux;
          extensions.sharedLibrary = if builtins.elem system lib.platforms.linux then ".so" else ".dylib";
        };
        buildPlatform.canExecute = _: true;
      };
      stdenvNoCC = self.stdenv // {
        mkDerivation = named;
      };
      rustPlatform.buildRustPackage =
        attrs:
        assert builtins.pathExists attrs.cargoLock.lockFile;
        named (removeAttrs attrs [ "cargoLock" ]);
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
      # The machine's configuration is evaluated, and the test has its script and its nix.conf.
      testers.runNixOSTest =
        test:
        let
          machine = import ./nixos.nix {
            inherit lib;
            pkgs = self;
            modules = [ test.nodes.machine ];
          };
        in
        package {
          name = "vm-test-run-${test.name}";
          inherit (test) testScript;
          settings = builtins.toJSON machine.config.nix.settings;
          inherit (machine.config.environment) systemPackages;
        };

      nix = nixOf nixVersion;
      # As in nixpkgs: some are there, one was removed, one is insecure, one is not supported here.
      nixVersions = {
        nix_2_8 = throw "nix_2_8 has been removed";
        nix_2_28 = nixOf "2.28.7";
        nix_2_30 = nixOf "2.30.5";
        nix_2_31 = nixOf "2.31.5+1";
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
