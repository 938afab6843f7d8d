//! The loader: the library that `plugin-files` names, for every version of Nix.
//!
//! A plugin has the ABI of exactly one build of Nix. The loader itself needs nothing from Nix. It finds out which Nix has
//! loaded it ([`nix`]), looks for the plugin that was built for it ([`installation`]), checks that opening the file is
//! harmless ([`plugin_file`]), and opens it ([`dynamic_linker`]). If there is no plugin, the loader prints a warning in one
//! line, and Nix goes on without one.

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
use nix_version::Flavour;

/// Runs when the loader is opened, except in its own tests. Nix before 2.22 only opens plugins; newer versions also call the
/// entry, and this function leaves the work to it. It does not in Lix, which calls the entry since 2.93: there the loader
/// only says something.
#[cfg(not(test))]
#[used]
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
static AT_LOAD: extern "C" fn() = {
    extern "C" fn at_load() {
        if !nix::calls_entry() || nix::running().is_some_and(|nix| nix.flavour == Flavour::Lix) {
            load_once();
        }
    }
    at_load
};

/// The function that Nix calls after it has opened a plugin (`initPlugins`, since 2.22).
// SAFETY: Nix gives the name. Each plugin has a function of this name, and Nix looks it up in the handle of this library only.
#[unsafe(no_mangle)]
pub extern "C" fn nix_plugin_entry() {
    load_once();
}

/// Loads the plugin once. Nix calls the entry as many times as `plugin-files` names this file.
fn load_once() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        panic::set_hook(Box::new(|_| ()));
        // A panic that unwinds into Nix would end the process.
        let problem = match panic::catch_unwind(load) {
            Ok(Ok(())) => return,
            Ok(Err(problem)) => problem,
            Err(_) => "nix-negative-cache does nothing, because of an error in its loader; please report it".to_owned(),
        };
        // In a build hook, the Nix that started it has already warned.
        if !nix::is_build_hook() {
            // If the warning cannot be written, there is nothing else to do.
            let _ = writeln!(io::stderr(), "warning: {}", problem.replace('\n', " "));
        }
    });
}

/// Opens the plugin for this Nix.
///
/// # Errors
///
/// The warning for the user.
fn load() -> Result<(), String> {
    let own_path = own_path().ok_or("nix-negative-cache does nothing: the loader does not find its own file")?;
    let installation = Installation::around(&own_path);
    let Some(nix) = nix::running() else {
        return Err(format!(
            "nix-negative-cache does nothing: this program is no Nix whose version can be read; {}. Upgrade \
             nix-negative-cache, or take '{}' out of 'plugin-files'",
            installation.what_it_has(),
            own_path.display()
        ));
    };
    if nix.flavour == Flavour::Lix {
        return Err(format!(
            "nix-negative-cache does nothing in {nix}, which it does not support. Take '{}' out of 'plugin-files', or \
             set NIX_CONFIG='plugin-files =' for Lix if Nix reads the same nix.conf",
            own_path.display()
        ));
    }
    let Some(plugin) = installation.plugin(&nix) else {
        return Err(format!(
            "nix-negative-cache does nothing in {nix}: {}. Install the plugin for this Nix there, or take '{}' out of \
             'plugin-files'",
            installation.what_it_has(),
            own_path.display()
        ));
    };
    let unusable = |why: String| {
        let plugin = plugin.display();
        format!("nix-negative-cache does nothing in {nix}: the plugin '{plugin}' {why}. Install it again")
    };
    // Apple's systems refuse to open a file that was cut off.
    #[cfg(not(target_vendor = "apple"))]
    plugin_file::check(&plugin, &nix).map_err(unusable)?;
    // SAFETY: the file is a complete library of this project, and it was built for this Nix.
    let library = unsafe { Library::open(&plugin) }.map_err(|why| unusable(format!("can't be opened: {why}")))?;
    let entry = library.symbol(c"nix_plugin_entry").map_err(|why| unusable(format!("is incomplete: {why}")))?;
    // SAFETY: the plugin defines the entry with this type, and the library stays open.
    let entry = unsafe { std::mem::transmute::<*const c_void, extern "C" fn()>(entry) };
    entry();
    Ok(())
}

/// The file from which this library was opened, under the name that was used for it.
fn own_path() -> Option<PathBuf> {
    dynamic_linker::file_of(load as *const c_void)
}
