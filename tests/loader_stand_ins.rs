//! Nixes that can't be had here: programs that stand in for them open the loader as they would. A stand-in exports what the
//! loader looks at, from libraries with the same names.

use nix_negative_cache_tests::{Ran, Scratch};

/// Each warning of the loader begins like this.
const DOES_NOTHING: &str = "warning: nix-negative-cache does nothing";

/// A stand-in for a Nix.
struct StandIn {
    /// The name of the library that has Nix's version.
    library: &'static str,
    /// `nix::nixVersion`.
    version: &'static str,
    /// `nix::determinateNixVersion`, which only Determinate Nix has.
    determinate: Option<&'static str>,
    /// How often it calls the entry of each plugin. It opens the loader twice.
    entries: u32,
}

impl StandIn {
    /// Runs the stand-in, which prints 42 when it has opened its plugins. `$LOADER` is the loader of `$OURS`, an installation
    /// whose plugins `prepare` can add to.
    fn run(&self, prepare: &str) -> Ran {
        let nix = Scratch::without_setting();
        let string = |mangled: &str, text: &str| {
            let length = text.len();
            format!(
                "struct {{ const char * text; unsigned long length, rest[2]; }} a{mangled} asm(\"{mangled}\") = \
                 {{ \"{text}\", {length} }};\n"
            )
        };
        let determinate = self.determinate.map(|text| string("_ZN3nix21determinateNixVersionB5cxx11E", text));
        let version = string("_ZN3nix10nixVersionB5cxx11E", self.version);
        nix.write("library.c", &(version + &determinate.unwrap_or_default()));
        nix.write(
            "program.c",
            r#"
            #include <dlfcn.h>
            #include <stdio.h>
            #include <stdlib.h>
            int main(int count, char * * arguments)
            {
                for (int plugin = 0; plugin < 2; ++plugin) {
                    void * handle = dlopen(getenv("LOADER"), RTLD_LAZY | RTLD_LOCAL);
                    void (* entry)(void) = handle ? dlsym(handle, "nix_plugin_entry") : 0;
                    if (!entry)
                        return fprintf(stderr, "%s\n", dlerror()), 1;
                    for (int calls = atoi(arguments[1]); calls; --calls)
                        entry();
                }
                return puts("42") < 0;
            }
            "#,
        );
        let Self { library, entries, .. } = self;
        nix.run(&format!(
            "OURS=$PWD/../ours; mkdir -p $OURS/loader; cp $PLUGIN $OURS/loader/it.so; export LOADER=$OURS/loader/it.so
             cc -shared -fPIC -o ../{library} ../library.c
             cc -o ../nix ../program.c -Wl,--no-as-needed -L.. -l:{library} -Wl,-rpath,$PWD/.. -ldl
             {prepare}
             ../nix {entries}"
        ))
    }
}

/// Lix opens plugins and, since 2.93, calls their entries. Either way the loader says once how to keep it out of Lix.
#[test]
fn lix() {
    for (library, version, entries) in [
        ("liblixstore.so", "2.90.0", 0),
        ("liblixstore.so", "2.93.0-dev-pre20250101-0123abc", 0),
        ("liblixstore.so", "2.95.3", 1),
        // Whatever the version.
        ("liblixstore.so", "3.1.0", 1),
        // Whatever the library.
        ("libstore.so", "2.96.0", 1),
    ] {
        let ran = StandIn { determinate: None, library, version, entries }.run("").exits(0).prints("42");
        let ran =
            ran.says_times(DOES_NOTHING, 1).says(&format!(" in Lix {version}, which it does not support. Take '"));
        assert_eq!(ran.stderr.lines().count(), 1, "{ran}");
        ran.says("/ours/loader/it.so' out of 'plugin-files', or set NIX_CONFIG='plugin-files =' for Lix ");
    }
}

/// The same libraries under Nix's names are a Nix.
#[test]
fn nix_of_a_version_without_a_plugin() {
    let nix = StandIn { determinate: None, library: "libnixstore.so", version: "2.89.0", entries: 2 };
    nix.run("").exits(0).prints("42").says_times(DOES_NOTHING, 1).says(" in Nix 2.89.0: ");
}

/// A library that claims to be the plugin that was built for this version, in the folder of that name. It says `opened`.
fn imitation(built_for: &str, folder: &str) -> String {
    format!(
        "mkdir -p $OURS/{folder}; {{ echo '#include <stdio.h>'
         echo '__attribute__((section(\".note.nix-negative-cache\"), aligned(4))) const struct {{ int a, b, c; char name[20], version[32]; }}'
         echo 'note = {{ 20, 32, 1, \"nix-negative-cache\", \"{built_for}\" }}; void nix_plugin_entry(void) {{ puts(\"opened\"); }}'
         }} > ../imitation.c; cc -shared -fPIC -o $OURS/{folder}/libnix_negative_cache.so ../imitation.c"
    )
}

/// The libraries of a development version have a shorter version than its program.
#[test]
fn a_development_version() {
    for version in ["2.36.0pre", "2.36.0pre20260812_0123abc"] {
        let nix = StandIn { determinate: None, library: "libnixstore.so", version, entries: 1 };
        for (built_for, folder) in [("2.36.0pre", "nix-2.36.0pre"), (version, &format!("nix-{version}"))] {
            let ran = nix.run(&imitation(built_for, folder)).exits(0).prints("opened\n42");
            ran.does_not_say("warning:");
        }
        let ran = nix.run(&imitation("2.36.0", "nix-2.36.0")).exits(0).prints("42");
        ran.says_times(DOES_NOTHING, 1).says(" has plugins for Nix 2.36.0. ");
        let ran = nix.run(&imitation("2.36.0", &format!("nix-{version}"))).exits(0).prints("42");
        ran.says_times(DOES_NOTHING, 1).says("was built for Nix 2.36.0");
    }
    // The plugin of one day's version is not that of another day's, or of libraries that may be another day's.
    for version in ["2.36.0pre", "2.36.0pre20260813_0123abc"] {
        let nix = StandIn { determinate: None, library: "libnixstore.so", version, entries: 1 };
        let day = "2.36.0pre20260812_0123abc";
        nix.run(&imitation(day, "nix-2.36.0pre")).exits(0).prints("42").says(&format!("was built for Nix {day}"));
    }
}

/// Determinate Nix has the version of the Nix that it is based on, and plugins of its own.
#[test]
fn determinate_nix() {
    let nix = StandIn { library: "libnixstore.so", version: "2.35.2", determinate: Some("3.22.2"), entries: 1 };
    let note = "determinate-nix-3.22.2";
    nix.run(&imitation(note, note)).exits(0).prints("opened\n42").does_not_say("warning:");
    for (prepare, says) in [
        (imitation("2.35.2", "nix-2.35.2"), " in Determinate Nix 3.22.2: "),
        (imitation("2.35.2", "nix-2.35.2"), " has plugins for Nix 2.35.2. Install"),
        (imitation(note, "determinate-nix-3.22.1"), " has plugins for Determinate Nix 3.22.1. Install"),
        (imitation("2.35.2", note), "was built for Nix 2.35.2. "),
        (imitation("determinate-nix-3.22.1", note), "was built for Determinate Nix 3.22.1. "),
    ] {
        nix.run(&prepare).exits(0).prints("42").says_times(DOES_NOTHING, 1).says(says);
    }
    // Nix itself does not take what is for Determinate Nix.
    let nix = StandIn { determinate: None, ..nix };
    nix.run(&imitation(note, note)).exits(0).prints("42").says(" in Nix 2.35.2: ");
    nix.run(&imitation(note, "nix-2.35.2")).exits(0).prints("42").says("was built for Determinate Nix 3.22.2. ");
    // Its version is the one that counts, and without it nothing is opened.
    let nix = StandIn { determinate: Some(""), ..nix };
    nix.run(&imitation("2.35.2", "nix-2.35.2")).exits(0).prints("42").says("is no Nix whose version can be read");
}
