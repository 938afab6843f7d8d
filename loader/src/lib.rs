//! The loader: what `plugin-files` names, whichever Nix reads it.
//!
//! A plugin has the ABI of exactly one build of Nix. This library needs nothing of Nix: it finds out in which one it is
//! ([`nix`]), looks for the plugin built for it ([`installation`]), makes sure that opening it is harmless
//! ([`plugin_file`]), and opens it ([`dynamic_linker`]). Where there is none it warns, in one line, and Nix goes on without.

mod dynamic_linker;
mod installation;
mod nix;
#[cfg(not(target_vendor = "apple"))]
mod plugin_file;

use std::ffi::c_void;
use std::io::{self, Write};
use std::panic;
use std::path::PathBuf;
use std::sync::Once;

use dynamic_linker::Library;
use installation::Installation;

/// Runs when the loader is opened (but not its own tests). Older Nix does nothing else with plugins; a newer one goes on to
/// call the entry.
#[cfg(not(test))]
#[used]
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
static AT_LOAD: extern "C" fn() = {
    extern "C" fn at_load() {
        if !nix::version().is_some_and(|version| version.calls_entry()) {
            load_once();
        }
    }
    at_load
};

/// What Nix calls once it has opened a plugin (`initPlugins`, since 2.22).
// SAFETY: the name is Nix's, and each plugin has its own: Nix looks it up in this library's handle.
#[unsafe(no_mangle)]
pub extern "C" fn nix_plugin_entry() {
    load_once();
}

/// Nix calls the entry again for each time that `plugin-files` names this file.
fn load_once() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        panic::set_hook(Box::new(|_| ()));
        // Unwinding into Nix would end it.
        let problem = match panic::catch_unwind(load) {
            Ok(Ok(())) => return,
            Ok(Err(problem)) => problem,
            Err(_) => "nix-negative-cache does nothing, because of an error in its loader; please report it".to_owned(),
        };
        // The Nix that started the build hook has said it.
        if !nix::is_build_hook() {
            // Whether anybody hears it makes no difference.
            let _ = writeln!(io::stderr(), "warning: {}", problem.replace('\n', " "));
        }
    });
}

/// Opens the plugin for this Nix; the error is what to tell the user.
fn load() -> Result<(), String> {
    let own_path = own_path().ok_or("nix-negative-cache does nothing: the loader does not find its own file")?;
    let installation = Installation::around(&own_path);
    let Some(version) = nix::version() else {
        return Err(format!(
            "nix-negative-cache does nothing: this program is no Nix whose version can be read; {}. Upgrade \
             nix-negative-cache, or take '{}' out of 'plugin-files'",
            installation.what_it_has(),
            own_path.display()
        ));
    };
    let Some(plugin) = installation.plugin(version.as_str()) else {
        return Err(format!(
            "nix-negative-cache does nothing in Nix {version}: {}. Install the plugin for this Nix there, or take '{}' \
             out of 'plugin-files'",
            installation.what_it_has(),
            own_path.display()
        ));
    };
    let unusable = |why: String| {
        let plugin = plugin.display();
        format!("nix-negative-cache does nothing in Nix {version}: the plugin '{plugin}' {why}. Install it again")
    };
    // Apple's systems refuse by themselves to open what was cut off.
    #[cfg(not(target_vendor = "apple"))]
    plugin_file::check(&plugin, version.as_str()).map_err(unusable)?;
    // SAFETY: the file is a whole library, of this project and for this Nix.
    let library = unsafe { Library::open(&plugin) }.map_err(|why| unusable(format!("can't be opened: {why}")))?;
    let entry = library.symbol(c"nix_plugin_entry").map_err(|why| unusable(format!("is incomplete: {why}")))?;
    // SAFETY: `src/lib.rs` of the plugin has it so, and the library stays open.
    let entry = unsafe { std::mem::transmute::<*const c_void, extern "C" fn()>(entry) };
    entry();
    Ok(())
}

/// The file that this library was opened from, by the name that was used.
fn own_path() -> Option<PathBuf> {
    dynamic_linker::file_of(load as *const c_void)
}
