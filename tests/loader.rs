//! `plugin-files` names the loader. It opens the plugin for the running Nix; if it can't, it says why in one line, and
//! nothing else changes. Tests that need a second Nix are in `versions`.

use nix_negative_cache_tests::{DIRECT, REFUSED, Ran, Scratch, beside_a_daemon, say, this_nix};
use nix_version::Flavour;

/// Starts a daemon that loads the loader. The daemon is a process of its own, so a test can stop it.
const WITH_LOADER: &str = "NIX_CONFIG=$(with $LOADER printenv NIX_CONFIG) nix-daemon >";

/// Each warning of the loader begins like this.
const DOES_NOTHING: &str = "warning: nix-negative-cache does nothing";

/// Shell commands that create `$OURS`, an installation whose plugin `$THE` is a link to the real one. `$NOTE` is how plugins for
/// this Nix name it.
const INSTALLATION: &str = r#"
    OURS=$PWD/../ours; THE=$OURS/$FOLDER/libnix_negative_cache.so
    rm -rf $OURS; mkdir -p $OURS/loader $OURS/$FOLDER; cp $PLUGIN $OURS/loader; ln -s $DIRECT $THE
    LOADER=$OURS/loader/libnix_negative_cache.so; NOTE=${FOLDER#nix-}
    STOCK=${NIX_CONFIG%plugin-files*}
    with() { NIX_CONFIG=${STOCK}plugin-files\ =\ $1 "${@:2}"; }
"#;

/// Adds the variable `$OURS`, among others, to shell commands.
fn commands(commands: &str) -> String {
    format!("{DIRECT}\n{INSTALLATION}\n{commands}")
}

fn with_expression() -> Scratch {
    let nix = Scratch::without_setting();
    nix.expression(r#"{ bad = fail "bad"; good = ok "good"; }"#);
    nix
}

/// Nothing changes except for one line of warning, whether `plugin-files` names the loader or its folder.
#[track_caller]
fn is_as_stock_but_says(spoil: &str, says: &str) {
    let nix = with_expression();
    for named in ["$LOADER", "$OURS/loader"] {
        let line = format!(
            "{spoil}
             use() {{ nix-build -A bad; echo $?; nix-instantiate --eval -E '6 * 7'; echo $?; nix-store --gc --print-dead; }}
             NIX_CONFIG=$STOCK use > ../stock 2> ../stock-said
             with {named} use > ../ours-printed 2> ../ours-said
             rest() {{ sed -e '/{DOES_NOTHING}/d' -e 's,/temproots/[0-9]*,/temproots/PID,' $1 | sort; }}
             rest ../ours-said > ../rest; rest ../stock-said > ../stock-rest
             cmp ../stock ../ours-printed && cmp ../stock-rest ../rest && cat ../ours-said >&2"
        );
        let ran = nix.run(&commands(&line)).exits(0);
        // Two of the commands load plugins in every version of Nix. The third one does in some versions.
        let warnings: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with(DOES_NOTHING)).collect();
        assert!(matches!(warnings.len(), 2 | 3), "{ran}");
        assert!(warnings.iter().all(|warning| warning.contains(says)), "it does not say: {says}\n{ran}");
    }
}

/// The command prints one line of warning, and 42.
#[track_caller]
fn warns_once(ran: Ran) -> Ran {
    ran.exits(0).says_times(DOES_NOTHING, 1).says_times("warning:", 1).prints("42")
}

#[test]
fn it_opens_the_plugin_for_this_nix() {
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; }"#);
    for named in ["$LOADER", "$OURS/loader", "$PWD/../profile/loader/it.so"] {
        let line = format!(
            "mkdir -p ../profile/loader; ln -sf $LOADER ../profile/loader/it.so
             with {named} nix-build; with {named} nix-build; with {named} $COMPANION forget --all"
        );
        nix.run(&commands(&line)).exits(0).does_not_say("warning:").says_times(REFUSED, 1);
    }
}

/// The same is true if `plugin-files` names the plugin itself.
#[test]
fn the_plugin_can_be_named_directly() {
    let nix = Scratch::new();
    nix.expression(r#"fail "bad""#);
    let ran = nix.run(&commands("with $DIRECT nix-build; with $DIRECT nix-build")).exits(100);
    ran.does_not_say("warning:").says_times(REFUSED, 1);
}

#[test]
fn without_a_plugin_for_this_nix() {
    is_as_stock_but_says(
        "rm -r $OURS/$FOLDER",
        "/ours' has plugins for no Nix. Install the plugin for this Nix there, or take '",
    );
    is_as_stock_but_says("rm $THE", "/ours' has plugins for no Nix.");
    let others = "mv $OURS/$FOLDER $OURS/nix-0.20; cp -r $OURS/nix-0.20 $OURS/nix-0.3";
    is_as_stock_but_says(others, "/ours' has plugins for Nix 0.3, 0.20.");
    is_as_stock_but_says("mv $OURS/$FOLDER $OURS/${FOLDER}1", &format!("does nothing in {} ", this_nix().flavour));
}

#[test]
fn with_what_is_not_the_plugin() {
    is_as_stock_but_says("ln -sf /nowhere $THE", "can't be read: No such file");
    is_as_stock_but_says("rm $THE; mkdir $THE", "is no file");
    is_as_stock_but_says("rm $THE; mkfifo $THE", "is no file");
    is_as_stock_but_says("rm $THE; seq 20000 > $THE", "is no shared library for this machine");
    is_as_stock_but_says("rm $THE; cc -shared -o $THE -x c /dev/null", "is no plugin of nix-negative-cache");
    // A program is no library. ET_EXEC is 2.
    let altered = |field: u8, value: &str| {
        format!(
            "cp --remove-destination $DIRECT $THE; printf '{value}' | dd of=$THE bs=1 seek={field} conv=notrunc status=none"
        )
    };
    is_as_stock_but_says(&altered(16, r"\2"), "is no shared library for this machine");
    // The plugin for another processor, by the number of a PDP-11.
    is_as_stock_but_says(&altered(18, r"\101\0"), "is no shared library for this machine");
    // A plugin that says that it is for another version.
    let other =
        r"rm $THE; LC_ALL=C sed -E 's/(nix-negative-cache\x00\x00)(determinate-nix-)?[23]/\1\29/' $DIRECT > $THE";
    is_as_stock_but_says(other, &format!("/libnix_negative_cache.so' was built for {} 9.", this_nix().flavour));
}

/// A library that claims to be the plugin for this Nix.
fn imitation(code: &str) -> String {
    format!(
        "rm $THE; {{ echo '__attribute__((section(\".note.nix-negative-cache\"), aligned(4)))'; \
         echo 'const struct {{ int a, b, c; char name[20], version[32]; }} note'; \
         echo '= {{ 20, 32, 1, \"nix-negative-cache\", \"'$NOTE'\" }};'; echo '{code}'; }} > ../imitation.c; \
         cc -shared -fPIC -o $THE ../imitation.c"
    )
}

#[test]
fn with_a_plugin_that_this_build_of_nix_lacks_something_for() {
    let lacking = imitation("void nix_has_none(void); void nix_plugin_entry(void) { nix_has_none(); }");
    is_as_stock_but_says(&lacking, "can't be opened: ");
    is_as_stock_but_says(&lacking, "undefined symbol: nix_has_none. Install it again");
    is_as_stock_but_says(&imitation("int unused;"), "is incomplete: ");
}

/// If the loader opened a library that was cut off, the process would end.
#[test]
fn with_a_plugin_that_was_cut_off() {
    let nix = with_expression();
    let ran = nix.run(&commands(
        "rm $THE; size=$(stat -Lc %s $DIRECT)
         for length in 0 1 63 64 200 5000 100000 $((size / 3)) $((size / 2)) $((size - 4096)) $((size - 64)) $((size - 1)); do
             head -c $length $DIRECT > $THE; with $LOADER nix-instantiate --eval -E '6 * 7' || exit; echo; done
         cp $DIRECT $THE; with $LOADER nix-instantiate --eval -E 'builtins ? knownFailure'",
    ));
    let ran = ran.exits(0).says_times(DOES_NOTHING, 12).says_times("warning:", 12);
    let printed: Vec<&str> = ran.stdout.split_whitespace().collect();
    assert_eq!((printed[..12].iter().all(|line| *line == "42"), &printed[12..]), (true, &["true"][..]), "{ran}");
    ran.says_times("is cut off", 9);
}

#[test]
fn with_a_plugin_that_may_not_be_read() {
    let nix = with_expression();
    let line = "chmod 755 ..; cp --remove-destination $DIRECT $THE; chmod 600 $THE
                export HOME=$PWD/../games NIX_STORE_DIR=$PWD/../games/store NIX_STATE_DIR=$PWD/../games/var
                mkdir -p $HOME; chown -R games $HOME
                with $LOADER setpriv --reuid games --regid games --clear-groups nix-instantiate --eval -E '6 * 7'";
    warns_once(nix.run(&commands(line))).says("can't be read: Permission denied");
    let line = line.replace("chmod 600 $THE", "chmod 700 $OURS/$FOLDER");
    warns_once(nix.run(&commands(&line))).says("can't be read: Permission denied");
}

#[test]
fn in_what_is_no_nix() {
    let nix = with_expression();
    nix.run("LD_PRELOAD=$PLUGIN expr 6 '*' 7").exits(0).says_times(DOES_NOTHING, 1).says("is no Nix").prints("42");
    nix.run("LD_PRELOAD=$PLUGIN expr 6 '*' 7 2>&-").exits(0).prints("42");
}

/// The sizes of Nix's types tell one build of a version from another.
#[test]
fn in_another_build_of_the_same_version() {
    let nix = with_expression();
    nix.write(
        "other.c",
        r#"
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <link.h>
        #include <stdint.h>
        #include <sys/mman.h>
        #include <unistd.h>
        __attribute__((constructor)) static void enlarge(void)
        {
            void * settings = dlsym(RTLD_DEFAULT, "_ZN3nix8settingsE");
            Dl_info found;
            void * symbol = 0;
            if (!settings || !dladdr1(settings, &found, &symbol, RTLD_DL_SYMENT) || !symbol)
                return;
            uintptr_t page = (uintptr_t) symbol & -sysconf(_SC_PAGESIZE);
            mprotect((void *) page, 2 * sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE);
            ((ElfW(Sym) *) symbol)->st_size += 8;
        }
        "#,
    );
    nix.run("cc -shared -fPIC -o ../other.so ../other.c").exits(0);
    for named in ["$PLUGIN", "$DIRECT"] {
        let line = format!("with {named} env LD_PRELOAD=$PWD/../other.so nix-instantiate --eval -E '6 * 7'");
        let ran = nix.run(&commands(&line)).exits(0).says_times("warning:", 1).prints("42");
        ran.says(&format!("was built for another build of {} ", this_nix().flavour));
    }
}

/// Determinate Nix has the version of the Nix that it is based on. It exports one more variable.
#[test]
fn in_determinate_nix() {
    if this_nix().flavour != Flavour::Nix {
        say("Left out: a stand-in for Determinate Nix is made of Nix only");
        return;
    }
    let nix = with_expression();
    nix.write(
        "determinate.c",
        "struct { const char * text; unsigned long length, rest[2]; } \
         variable asm(\"_ZN3nix21determinateNixVersionB5cxx11E\") = { \"3.4.0\", 5 };",
    );
    nix.run("cc -shared -fPIC -o ../determinate.so ../determinate.c").exits(0);
    for (prepare, named, says) in [
        ("", "$LOADER", "does nothing in Determinate Nix 3.4.0: "),
        ("", "$LOADER", " has plugins for Nix 2."),
        // The plugin that is for Nix itself.
        ("mv $OURS/$FOLDER $OURS/determinate-nix-3.4.0", "$LOADER", "was built for Nix 2."),
        ("", "$DIRECT", ", not for Determinate Nix 3.4.0, and does nothing"),
    ] {
        let line =
            format!("{prepare}\n with {named} env LD_PRELOAD=$PWD/../determinate.so nix-instantiate --eval -E '6 * 7'");
        nix.run(&commands(&line)).exits(0).says_times("warning:", 1).says(says).prints("42");
    }
}

#[test]
fn the_build_hook_does_not_say_it_again() {
    let nix = with_expression();
    let machine = format!("$PWD/../machine {}", nix.system());
    let build = format!("with $LOADER nix-build -j0 --no-out-link --builders \"{machine}\" -A good");
    let ran = nix.run(&commands(&format!("rm $THE; {build}")));
    // Some versions find no shell on that machine, but the build hook did run.
    ran.says("-good.drv' on '").says_times(DOES_NOTHING, 1);
}

#[test]
fn in_a_daemon() {
    let nix = with_expression();
    let client = "export NIX_REMOTE=daemon NIX_CONFIG=$STOCK; nix-build -A bad; nix-build -A bad; nix-build -A good";
    let line = beside_a_daemon(client).replace("nix-daemon >", WITH_LOADER);
    nix.run(&commands(&format!("rm $THE; {line}"))).exits(0).does_not_say("negative-cache");
    assert_eq!((nix.runs("bad"), nix.runs("good")), (2, 1));
    let said = std::fs::read_to_string(nix.path("daemon-log")).unwrap();
    assert_eq!(said.matches(DOES_NOTHING).count(), 1, "{said}");
}

/// nix.conf and a development shell can both name plugins, from one installation or several, with or without the loader.
#[test]
fn it_starts_once_however_often_it_is_named() {
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; }"#);
    let copy = "cp -rL $OURS $COPY";
    for (prepare, named) in [
        ("", "$LOADER $LOADER"),
        ("", "$LOADER $OURS/loader"),
        (copy, "$LOADER $COPY/loader"),
        (copy, "$COPY/loader $LOADER $PLUGIN"),
        ("", "$LOADER $DIRECT"),
        ("", "$DIRECT $LOADER"),
        (copy, "$COPY/$FOLDER/libnix_negative_cache.so $LOADER $DIRECT"),
        (copy, "$DIRECT $COPY/$FOLDER/libnix_negative_cache.so"),
    ] {
        let line = format!(
            "COPY=$PWD/../copy; rm -rf $COPY; {prepare}\n named=\"{named}\"; with \"$named\" nix-build; with \"$named\" nix-build"
        );
        let ran = nix.run(&commands(&line)).exits(100).does_not_say("warning:").says_times(REFUSED, 1);
        let attempts: Vec<_> = nix.records().iter().map(|record| record["attempts"].as_u64()).collect();
        assert_eq!(attempts, [Some(1)], "{ran}");
        nix.run("$COMPANION forget --all").exits(0);
    }
}
