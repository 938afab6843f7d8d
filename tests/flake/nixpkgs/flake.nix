# A stand-in for nixpkgs: as much of it as the project's flake uses, so that it can be evaluated without a network.
{
  outputs =
    { self }:
    let
      lib = {
        genAttrs = names: f: builtins.listToAttrs (map (name: { inherit name; value = f name; }) names);
        importTOML = path: builtins.fromTOML (builtins.readFile path);
        licenses.lgpl21Plus = { spdxId = "LGPL-2.1-or-later"; };
      };
      packagesFor =
        system:
        let
          package =
            attrs:
            derivation {
              name = if attrs ? pname then "${attrs.pname}-${attrs.version}" else attrs.name;
              inherit system;
              builder = "/bin/sh";
              inputs = attrs.nativeBuildInputs or [ ] ++ attrs.buildInputs or [ ] ++ attrs.inputsFrom or [ ] ++ attrs.packages or [ ];
            };
          simple = names: lib.genAttrs names (name: package { inherit name; });
          pkgs =
            simple [ "boehmgc" "boost" "clippy" "nix" "nlohmann_json" "pkg-config" "rustfmt" "sqlite" ]
            // {
              inherit lib;
              stdenv.hostPlatform = { inherit system; };
              rustPlatform.buildRustPackage =
                attrs:
                assert builtins.pathExists attrs.cargoLock.lockFile;
                package attrs;
              mkShell = attrs: package ({ name = "shell"; } // attrs);
              callPackage = f: overrides: f (builtins.intersectAttrs (builtins.functionArgs f) pkgs // overrides);
            };
        in
        pkgs;
    in
    {
      inherit lib;
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ] packagesFor;
    };
}
