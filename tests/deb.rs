//! The Debian package: it is installed below a folder of its own, used from there, and removed without a trace. `./dev test
//! --all` makes it.

use nix_negative_cache_tests::{REFUSED, Scratch};

/// Defines `dpkg_below`, which works on `$ROOT`. The packages of this system count as installed there, so dependencies are
/// checked.
const ROOT: &str = r#"
    ROOT=$PWD/../root
    dpkg_below() { dpkg --root=$ROOT --force-script-chrootless --log=$ROOT/log "$@" > ../dpkg-printed; }
    mkdir -p $ROOT/etc/nix $ROOT/usr $ROOT/nix/var/nix $ROOT/var/lib/dpkg/{info,updates,triggers}
    [ -e $ROOT/var/lib/dpkg/status ] || cp /var/lib/dpkg/status $ROOT/var/lib/dpkg
    export NIX_CONF_DIR=$ROOT/etc/nix NIX_STATE_DIR=$ROOT/nix/var/nix
    PATH=$ROOT/usr/bin:$PATH
    [ -e $ROOT/etc/nix/nix.conf ] || cp ../etc/nix.conf $ROOT/etc/nix
"#;

fn package() -> String {
    std::env::var("NNC_DEB").expect("NNC_DEB is not set: run this with ./dev test --all")
}

#[test]
fn it_is_installed_used_and_purged() {
    // The test must not use anything else that `./dev` built.
    let nix = Scratch::stock();
    nix.expression(r#"{ bad = fail "bad"; }"#);
    let run = |line: &str| nix.run_with(&format!("{ROOT}\n{line}"), &[("DEB", &package()), ("COMPANION", "/nowhere")]);

    run("nix-build -A bad; dpkg_below -i $DEB && dpkg-query --root=$ROOT -Wf '${Status}' nix-negative-cache")
        .exits(0)
        .prints("install ok installed");
    // The package does not switch the plugin on. README.Debian has the two lines that do.
    run("nix-build -A bad; cmp ../etc/nix.conf $ROOT/etc/nix/nix.conf").exits(0).does_not_say(REFUSED);
    run("sed -n 's/^    \\(plugin-files\\|negative-cache\\) = /\\1 = /p' $ROOT/usr/share/doc/nix-negative-cache/README.Debian |
         sed \"s|/usr/|$ROOT/usr/|\" >> $ROOT/etc/nix/nix.conf; tail -n2 $ROOT/etc/nix/nix.conf")
        .exits(0)
        .prints(&format!(
            "plugin-files = {}/work/../root/usr/lib/nix-negative-cache/loader/libnix_negative_cache.so\nnegative-cache = true",
            nix.path("").display().to_string().trim_end_matches('/')
        ));
    let ran = run("nix-build -A bad; nix-build -A bad").exits(100).does_not_say("warning:").says_times(REFUSED, 1);
    assert_eq!(nix.runs("bad"), 3, "{ran}");
    run("nix-negative-cache list | grep -c bad; nix-negative-cache doctor > /dev/null; echo $?")
        .exits(0)
        .prints("1\n0");

    // Removing the package warns about lines in nix.conf that would keep Nix from starting. The records stay until the
    // package is purged.
    run("dpkg_below -r nix-negative-cache; ls $ROOT/nix/var/nix/negative-cache/failures.sqlite > /dev/null")
        .exits(0)
        .says("take it out of 'plugin-files' in /etc/nix/nix.conf, or Nix will not start");
    run("sed -i /negative-cache/d $ROOT/etc/nix/nix.conf; dpkg_below -P nix-negative-cache; nix-build -A bad; \
         find $ROOT | grep negative-cache | grep -v /store/; dpkg-query --root=$ROOT -W nix-negative-cache")
    .exits(1)
    .says("no packages found matching nix-negative-cache")
    .prints("");
}

#[test]
fn it_has_what_debian_wants_to_see() {
    let nix = Scratch::stock();
    let field = |field: &str| {
        nix.run_with(&format!("dpkg-deb -f $DEB {field}"), &[("DEB", &package())]).exits(0).stdout.trim().to_owned()
    };
    let depends = field("Depends");
    for library in ["nix-bin", "libc6", "libsqlite3-0", "libstdc++6"] {
        assert!(depends.split(", ").any(|part| part.split(' ').next() == Some(library)), "{library} in {depends}");
    }
    let listed = nix.run_with("dpkg-deb -c $DEB", &[("DEB", &package())]).exits(0).stdout;
    for path in [
        "./usr/bin/nix-negative-cache",
        "./usr/lib/nix-negative-cache/loader/libnix_negative_cache.so",
        "./usr/lib/nix-negative-cache/nix-2.8.0/libnix_negative_cache.so",
        "./usr/share/bash-completion/completions/nix-negative-cache",
        "./usr/share/doc/nix-negative-cache/README.Debian",
        "./usr/share/doc/nix-negative-cache/copyright",
    ] {
        assert!(listed.lines().any(|line| line.ends_with(path)), "{path} in {listed}");
    }
    assert!(
        listed.lines().all(|line| line.contains(" root/root ") && &line[5..6] == "-" && &line[8..9] == "-"),
        "{listed}"
    );
    // Nix opens every file in this folder.
    assert_eq!(listed.matches("/loader/l").count(), 1, "{listed}");
}
