# What ./dev and its parts share: where things are, how they get there, how the plugin is built. Sourced, not run.

# The first one is the default. NIX_PREFIX names another Nix, wherever it came from: where it was installed, with its headers
# and pkg-config files. Then there is no other.
all_versions=(2.8 2.26)
if [ -n "${NIX_PREFIX:-}" ]; then
    all_versions=("$(sed -n 's/^Version: *\([0-9]*\.[0-9]*\).*/\1/p' "$NIX_PREFIX/lib/pkgconfig/nix-store.pc")")
fi
# Root's is where other users can run what is in it, as the tests do.
if [ "$(id -u)" -eq 0 ]; then cache=/var/cache; else cache=${XDG_CACHE_HOME:-$HOME/.cache}; fi
cache=${NIX_NEGATIVE_CACHE_DEV:-$cache/nix-negative-cache}
target=$project/target
# What is built is put together here as it would be installed, with the plugins for all versions side by side.
installed=$target/installed
companion_folder=$installed/bin

say() { printf '\n==> %s\n' "$*" >&2; }
die() { printf '%s\n' "error: $*" >&2; exit 1; }
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }

# Installs the Debian packages that are missing.
need_packages() {
    local package missing=()
    for package; do
        [ "$(dpkg-query -Wf '${db:Status-Abbrev}' "$package" 2>/dev/null)" = 'ii ' ] || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    say "Installing ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

rust_is_new_enough() {
    local needed found
    needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$project/Cargo.toml")
    found=$(cargo --version 2>/dev/null | cut -d' ' -f2) || true
    [ "$(printf '%s\n' "$needed" "${found:-0}" | sort -V | head -n1)" = "$needed" ]
}

# Debian 12's own Rust is too old, but for the one that its browsers are built with, which gets security updates.
need_rust() {
    need_packages libsqlite3-dev pkg-config g++ ca-certificates
    rust_is_new_enough && return
    say "Installing rustc-web and cargo-web"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rustc-web cargo-web >&2
    rust_is_new_enough || die "this Rust is older than Cargo.toml asks for; install a newer one with rustup, or enable Debian's security updates (bookworm-security)"
}

prefix_of() { echo "${NIX_PREFIX:-$cache/nix-$1}"; }
bin_of() { echo "$(prefix_of "$1")/bin"; }
# All of the version of a Nix that is known by its beginning.
nix_version() { sed -n 's/^Version: *//p' "$(prefix_of "$1")/lib/pkgconfig/nix-store.pc"; }
# What plugin-files names, with everything built as usual or with a feature: loader_of [FEATURE]
loader_of() { echo "$installed${1:+-$1}/lib/nix-negative-cache/loader/libnix_negative_cache.so"; }

# A source of Debian packages for the given suite, at the mirror that this machine uses.
mirror() {
    local found
    found=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n1)
    [ -n "$found" ] || die "apt knows no mirror of Debian 12 (bookworm): run this on Debian 12, after 'apt-get update'"
    echo "$found"
}

# get_nix VERSION: sees to it that the Nix is there, with headers, in `prefix_of VERSION`.
get_nix() {
    case " ${all_versions[*]} " in *" $1 "*) ;; *) die "there is no recipe for Nix $1; there are ${all_versions[*]}" ;; esac
    [ -n "${NIX_PREFIX:-}" ] || "$project/scripts/get-nix-$1" "$project" "$cache"
}

# install_build PREFIX VERSION PLUGIN: puts the loader, a plugin and the companion program where they belong below PREFIX.
# Nothing that is there already and may be in use is written over.
install_build() {
    local prefix=$1 version=$2 plugin=$3 libraries=$1/lib/nix-negative-cache built=$target/companion/release
    install -CD "$built/libnix_negative_cache_loader.so" "$libraries/loader/libnix_negative_cache.so"
    install -CD "$plugin" "$libraries/nix-$version/libnix_negative_cache.so"
    install -CD -t "$prefix/bin" "$built/nix-negative-cache" "$built/nix-negative-cache-shim"
}

# build_plugin VERSION [FEATURE]: builds the plugin for that Nix, the loader and the companion program, and installs them in
# $installed or $installed-FEATURE. Says nothing if there is nothing to do.
build_plugin() {
    local folder=$target/nix-$1${2:+-$2}
    need_rust
    (
        cd "$project"
        CARGO_TARGET_DIR=$target/companion cargo build --quiet --locked --release \
            -p nix-negative-cache -p nix-negative-cache-loader
        local prefix
        prefix=$(prefix_of "$1")
        export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
        # A Nix that was built in a root of its own needs that root's compiler and headers.
        if [ -d "$prefix/tools" ]; then
            export NNC_PROJECT=$project PKG_CONFIG=$prefix/tools/pkg-config CXX=$prefix/tools/g++
        fi
        [ -e "$folder/release/libnix_negative_cache.so" ] || say "Building the plugin for Nix $1${2:+ with $2}"
        CARGO_TARGET_DIR=$folder cargo build --quiet --locked --release -p nix-negative-cache-plugin ${2:+--features "$2"}
        install_build "$installed${2:+-$2}" "$(nix_version "$1")" "$folder/release/libnix_negative_cache.so"
    )
}
