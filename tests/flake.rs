//! The flake evaluates, against a stand-in for nixpkgs: the real one can't be fetched without a network.

use std::fs;
use std::path::Path;

use nix_negative_cache_tests::Scratch;

#[test]
fn every_output_evaluates() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the project's folder");
    let nix = Scratch::new();
    for folder in ["work/project", "work/nixpkgs"] {
        fs::create_dir(nix.path(folder)).unwrap();
    }
    for file in ["flake.nix", "Cargo.toml", "Cargo.lock"] {
        fs::copy(project.join(file), nix.path("work/project").join(file)).unwrap();
    }
    fs::copy(project.join("tests/flake/flake.nix"), nix.path("work/nixpkgs/flake.nix")).unwrap();
    let eval = |output: &str| {
        nix.run(&format!(
            "nix eval --raw path:$PWD/project#{output} --override-input nixpkgs path:$PWD/nixpkgs --no-write-lock-file"
        ))
        .exits(0)
        .stdout
    };
    for system in ["x86_64-linux", "aarch64-linux", "x86_64-darwin", "aarch64-darwin"] {
        for output in ["packages", "devShells", "checks"] {
            assert!(eval(&format!("{output}.{system}.default.drvPath")).ends_with(".drv"));
        }
        let version = format!("nix-negative-cache-{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(eval(&format!("packages.{system}.default.name")), version);
    }
}
