//! Compiles the C++ side against the Nix that pkg-config finds.

use std::env;
use std::fs;
use std::io;
use std::iter;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix_version::{Flavour, Nix, NixVersion};

/// The releases of Nix that the C++ side has been compiled against and tested with.
const SUPPORTED: [(u32, u32); 10] =
    [(2, 8), (2, 18), (2, 24), (2, 26), (2, 28), (2, 30), (2, 31), (2, 34), (2, 35), (2, 36)];

/// The first release whose programs can export the C API (`plugin-c-api`).
const C_API_SINCE: (u32, u32) = (2, 35);

/// The functions of the C API that src/primop/c_api.rs calls.
const C_API: &str = "nix_(alloc_primop|alloc_value|bindings_builder_(free|insert)|c_context_(create|free)|err_(code|msg)|gc_decref|\
                     get_(attr_byname|string|type|typename)|has_attr_byname|init_(bool|float|int|null|string)|make_attrs|\
                     make_bindings_builder|register_primop|set_err_msg|value_(decref|force))";

/// The package of the headers of the C API.
const C_API_PACKAGE: &str = "nix-expr-c";

const PACKAGES: [&str; 3] = ["nix-store", "nix-expr", "nix-main"];

/// The releases of Determinate Nix that the C++ side has been compiled against, and the functional tests have passed in.
const DETERMINATE: [(u32, u32); 2] = [(3, 21), (3, 22)];

fn main() {
    for variable in ["PKG_CONFIG", "PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR", "PKG_CONFIG_SYSROOT_DIR"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    if env::var("CARGO_CFG_TARGET_VENDOR").is_ok_and(|vendor| vendor != "apple") {
        // Functions are looked up when they are first called: of Nix's, few are in most processes.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,lazy");
        // The bridge's own functions are not looked up in all libraries of the process, nor found in another plugin.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-Bsymbolic-functions");
    }
    println!("cargo::rerun-if-changed=cpp");
    println!("cargo::rustc-check-cfg=cfg(c_api)");
    if let Err(message) = build() {
        println!("cargo::error={message}");
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let version = pkg_config("--modversion", &PACKAGES[..1])?;
    let numbers = NixVersion::parse(&version).ok_or(format!("Nix has the odd version '{version}'"))?;
    let NixVersion { major, minor, patch } = numbers;
    let uses_c_api = uses_c_api(numbers);
    let packages: Vec<&str> = PACKAGES.into_iter().chain(uses_c_api.then_some(C_API_PACKAGE)).collect();
    let flags = pkg_config("--cflags", &packages)?;
    let flags = shell_words::split(&flags).map_err(|error| format!("pkg-config's flags for Nix: {error}"))?;
    let nix = if is_determinate(&flags) { Nix::determinate(&determinate_version()?) } else { Nix::released(&version) };
    check_support(&nix)?;

    let mut compiler = match uses_c_api {
        true => cxx_build::bridges(["src/bridge.rs", "src/ending.rs", "src/primop.rs"]),
        false => cxx_build::bridges(["src/bridge.rs", "src/ending.rs"]),
    };
    if uses_c_api {
        bind_c_api(&flags)?;
        // By itself: the C API has types with the names of Nix's own.
        compiler.file("cpp/c_api/primop.cc");
        compiler.define("NIX_NEGATIVE_CACHE_C_API", None);
    }
    // Nix's headers take most of the time, so all files of a layer are compiled as one.
    let eras = eras(numbers)?;
    let compat: Vec<&Path> = iter::once(Path::new(COMPAT)).chain(eras.iter().map(PathBuf::as_path)).collect();
    compiler.file(all_in_one("compat", &compat)?);
    compiler.file(all_in_one("cpp", &[Path::new("cpp")])?);
    compiler.include("cpp");
    compiler.includes(&eras);
    // As Nix itself: C++20 since 2.16, C++23 since 2.29.
    compiler.std(match (major, minor) {
        (2, ..16) => "c++17",
        (2, 16..29) => "c++20",
        _ => "c++23",
    });
    // One number that conditionals can compare, two of three digits each below the major version.
    let number = major * 1_000_000 + minor * 1_000 + patch;
    compiler.define("NIX_NEGATIVE_CACHE_NIX_VERSION", number.to_string().as_str());
    // The loader reads the note in the plugin's file. Messages name Nix.
    let folder = nix.folder().unwrap_or_default();
    let note = if nix.flavour == Flavour::Nix { &version } else { &folder };
    compiler.define("NIX_NEGATIVE_CACHE_NOTE", format!("\"{note}\"").as_str());
    compiler.define("NIX_NEGATIVE_CACHE_NIX", format!("\"{nix}\"").as_str());
    if nix.flavour == Flavour::Determinate {
        compiler.define("NIX_NEGATIVE_CACHE_DETERMINATE_VERSION", format!("\"{}\"", nix.version).as_str());
    }
    // A development version is not told by its number alone.
    if version.ends_with("pre") {
        let libraries = pkg_config("--variable=libdir", &PACKAGES[..1])?;
        compiler.define("NIX_NEGATIVE_CACHE_NIX_LIBDIR", format!("\"{libraries}\"").as_str());
    }
    // Older C++ standards know designated initialisers as an extension, which Nix uses as well.
    compiler.flag_if_supported("-Wno-pedantic");
    compiler.flag_if_supported("-Wno-missing-field-initializers");
    for flag in nix_flags(&flags) {
        compiler.flag(flag);
    }
    compiler.try_compile("nix-negative-cache-cpp").map_err(|error| format!("the C++ side does not compile: {error}"))
}

/// Fails if the plugin does not support this Nix.
fn check_support(nix: &Nix) -> Result<(), String> {
    let (supported, others): (&[_], _) = match nix.flavour {
        Flavour::Determinate => (&DETERMINATE, "Determinate Nix "),
        _ => (&SUPPORTED, ""),
    };
    let release = NixVersion::parse(&nix.version).map(|version| (version.major, version.minor));
    if release.is_some_and(|release| supported.contains(&release)) {
        return Ok(());
    }
    let supported: Vec<String> = supported.iter().map(|(major, minor)| format!("{major}.{minor}")).collect();
    Err(format!(
        "this is {nix}; the plugin supports {others}{}. Point PKG_CONFIG_PATH at one of those, or use './dev'.",
        supported.join(", ")
    ))
}

/// Whether the headers that these flags name are those of Determinate Nix. pkg-config only tells the Nix that it is based on.
fn is_determinate(flags: &[String]) -> bool {
    let folders = flags.iter().filter_map(|flag| flag.strip_prefix("-I"));
    let header = |folder| fs::read_to_string(Path::new(folder).join("nix/store/globals.hh"));
    folders.filter_map(|folder| header(folder).ok()).any(|header| header.contains("determinateNixVersion"))
}

/// The version of Determinate Nix: from the environment, or as the program beside the libraries prints it.
///
/// # Errors
/// If neither tells it.
fn determinate_version() -> Result<String, String> {
    println!("cargo::rerun-if-env-changed={DETERMINATE_VARIABLE}");
    if let Ok(version) = env::var(DETERMINATE_VARIABLE) {
        return Ok(version);
    }
    let program = Path::new(&pkg_config("--variable=prefix", &PACKAGES[..1])?).join("bin/nix");
    let printed = Command::new(&program).arg("--version").output().ok();
    let printed = printed.map(|output| Nix::printed(&String::from_utf8_lossy(&output.stdout)));
    let own = printed.filter(|nix| nix.flavour == Flavour::Determinate);
    own.map(|nix| nix.version).ok_or_else(|| {
        format!(
            "this is Determinate Nix, and '{} --version' does not tell which. Set {DETERMINATE_VARIABLE} to its version.",
            program.display()
        )
    })
}

const DETERMINATE_VARIABLE: &str = "DETERMINATE_NIX_VERSION";

/// Whether `builtins.knownFailure` is also written against the C API, for processes that export it.
fn uses_c_api(NixVersion { major, minor, .. }: NixVersion) -> bool {
    let wanted = (major, minor) >= C_API_SINCE || env::var_os("CARGO_FEATURE_C_API_OF_EVERY_NIX").is_some();
    let is_there = wanted && pkg_config("--exists", &[C_API_PACKAGE]).is_ok();
    if wanted && !is_there {
        println!(
            "cargo::warning=pkg-config does not find {C_API_PACKAGE}: builtins.knownFailure is for the C++ API only"
        );
    }
    is_there
}

/// Makes the bindings of the C API, which are a table of functions that is filled at run time.
///
/// # Errors
/// If there is no libclang, or if it can't read Nix's headers.
fn bind_c_api(flags: &[String]) -> Result<(), String> {
    println!("cargo::rustc-cfg=c_api");
    let folders = nix_flags(flags).into_iter().filter(|flag| flag.starts_with("-isystem/"));
    let builder = bindgen::Builder::default()
        .header_contents("c_api.h", "#include <nix_api_expr.h>\n#include <nix_api_value.h>\n")
        // The headers have attributes in the form of C23.
        .clang_args(["-std=c2x"].map(str::to_owned).into_iter().chain(folders))
        .allowlist_function(C_API)
        .dynamic_library_name("CApi")
        .dynamic_link_require_all(true)
        .prepend_enum_name(false)
        .generate_comments(false)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .wrap_unsafe_ops(true)
        .formatter(bindgen::Formatter::None);
    // Without libclang, bindgen panics.
    let bindings = panic::catch_unwind(panic::AssertUnwindSafe(|| builder.generate()))
        .map_err(|_| "bindgen needs libclang for the C API of Nix; on Debian 12: libclang1-14, libclang-common-14-dev")?
        .map_err(|error| format!("the headers of Nix's C API can't be read: {error}"))?;
    let path = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("c_api.rs");
    bindings.write_to_file(&path).map_err(|error| format!("cannot write '{}': {error}", path.display()))
}

/// The folder with all code that differs between versions of Nix.
const COMPAT: &str = "cpp/compat";

/// The file with the hooks for late refusals. Each era has one. The folder `NO_HOOKS` has the one that replaces them.
const HOOKS: &str = "late_refusal_hooks.cc";
const NO_HOOKS: &str = "without-late-refusal";

/// The folders of `COMPAT` that are for a version of Nix.
///
/// # Errors
/// If `COMPAT` can't be read, or a folder's name does not tell the versions that it is for.
fn eras(version: NixVersion) -> Result<Vec<PathBuf>, String> {
    let mut eras = Vec::new();
    for path in files(Path::new(COMPAT))?.into_iter().filter(|path| path.is_dir()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let wanted = if name == NO_HOOKS { has_no_hooks() } else { is_for(&name, version)? };
        if wanted {
            eras.push(path);
        }
    }
    Ok(eras)
}

fn has_no_hooks() -> bool {
    env::var_os("CARGO_FEATURE_WITHOUT_LATE_REFUSAL").is_some()
}

/// Whether a folder with this name is for a version of Nix: `2.8`, `2.18-2.28` (both included), `until-2.28` or `since-2.30`.
///
/// # Errors
/// If the name has another form.
fn is_for(name: &str, version: NixVersion) -> Result<bool, String> {
    let (first, last) = match name.split_once('-') {
        Some(("until", last)) => (None, Some(last)),
        Some(("since", first)) => (Some(first), None),
        Some((first, last)) => (Some(first), Some(last)),
        None => (Some(name), Some(name)),
    };
    let release = |text: &str| {
        let release = text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        release.ok_or(format!("the name of the folder '{COMPAT}/{name}' does not tell which versions of Nix it is for"))
    };
    let this: (u32, u32) = (version.major, version.minor);
    Ok(first.map(release).transpose()?.is_none_or(|first: (u32, u32)| first <= this)
        && last.map(release).transpose()?.is_none_or(|last| this <= last))
}

/// The absolute paths of the files and folders in a folder, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let trouble = |error: io::Error| format!("cannot read the folder '{}': {error}", folder.display());
    let folder = fs::canonicalize(folder).map_err(trouble)?;
    let entries = fs::read_dir(&folder).map_err(trouble)?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// Writes a file that includes all C++ files of these folders, and returns its path.
fn all_in_one(name: &str, folders: &[&Path]) -> Result<PathBuf, String> {
    let mut text = String::new();
    for folder in folders {
        let replaces_hooks = folder.ends_with(NO_HOOKS);
        for path in files(folder)? {
            let is_source = path.extension().is_some_and(|extension| extension == "cc");
            let is_left_out = has_no_hooks() && path.ends_with(HOOKS) && !replaces_hooks;
            if is_source && !is_left_out {
                text += &format!("#include \"{}\"\n", path.display());
            }
        }
    }
    let path = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join(format!("all_of_{name}.cc"));
    fs::write(&path, text).map_err(|error| format!("cannot write '{}': {error}", path.display()))?;
    Ok(path)
}

/// The flags that matter, with Nix's headers marked as the system's so that only our own code is warned about.
fn nix_flags(flags: &[String]) -> Vec<String> {
    let mut result = Vec::new();
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        if let Some(folder) = flag.strip_prefix("-I") {
            result.push(format!("-isystem{folder}"));
        } else if flag == "-include" || flag == "-isystem" {
            result.extend([flag.clone(), flags.next().cloned().unwrap_or_default()]);
        } else if !flag.starts_with("-std=") {
            result.push(flag.clone());
        }
    }
    result
}

fn pkg_config(question: &str, packages: &[&str]) -> Result<String, String> {
    let program = env::var("PKG_CONFIG").unwrap_or("pkg-config".to_owned());
    let output = Command::new(&program)
        .arg(question)
        .args(packages)
        .output()
        .map_err(|error| format!("cannot run '{program}', which finds Nix: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "there is no Nix with headers: pkg-config does not find {}. Install Nix's development files and add their \
             lib/pkgconfig to PKG_CONFIG_PATH, or let './dev nix 2.8' and './dev run' do it.",
            packages.join(", ")
        ));
    }
    String::from_utf8(output.stdout).map(|text| text.trim().to_owned()).map_err(|error| error.to_string())
}
