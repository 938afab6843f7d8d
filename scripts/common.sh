# shellcheck shell=bash
# What ./dev and its parts share: where things are, how they get there, how the plugin is built. Sourced, not run.

# Root's is where other users can run what is in it, as the tests do.
if [ "$(id -u)" -eq 0 ]; then cache=/var/cache; else cache=${XDG_CACHE_HOME:-$HOME/.cache}; fi
cache=${NIX_NEGATIVE_CACHE_DEV:-$cache/nix-negative-cache}
# The folder of the project is set by whoever sources this.
target=${project:?}/target

# The Nixes that there are recipes for, and then those that somebody added: $cache/nix-VERSION is a link to their prefix. For
# Determinate Nix 3.22, VERSION is determinate-3.22. The first Nix of the list is the default. NIX_PREFIX names another Nix,
# wherever it came from; then there is no other.
recipe_versions=(2.8 2.26)
all_versions=("${recipe_versions[@]}")
for link in "$cache"/nix-*; do
    [[ ! -L $link || ! ${link##*/nix-} =~ ^(determinate-)?[0-9]+\.[0-9]+$ ]] || all_versions+=("${link##*/nix-}")
done
if [ -n "${NIX_PREFIX:-}" ]; then
    recipe_versions=("$(sed -n 's/^Version: *\([0-9]*\.[0-9]*\).*/\1/p' "$NIX_PREFIX/lib/pkgconfig/nix-store.pc")")
    all_versions=("${recipe_versions[@]}")
fi
# What is built is put together here as it would be installed, with the plugins for all versions side by side.
installed=$target/installed
# shellcheck disable=SC2034 # for those that source this
companion_folder=$installed/bin
# Where cargo puts what it builds, below its target folder, and what it needs to build it.
release=release
build_options=()

say() { printf '\n==> %s\n' "$*" >&2; }
die() { printf '%s\n' "error: $*" >&2; exit 1; }
# is_in WORD LIST…
is_in() {
    local word=$1 other
    shift
    for other; do [ "$other" != "$word" ] || return 0; done
    return 1
}
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }

# part NAME COMMAND…: runs a part of something long, and notes how long it took, for `print_parts`.
parts=() running='' running_since=0
part() {
    running=$1 running_since=$SECONDS
    shift
    "$@"
    note_part
}
note_part() {
    parts+=("$(printf '%6d s  %s' $((SECONDS - running_since)) "$running${1:-}")")
    running=
}
# Prints how long each part took, and which one failed if one did. To be called when the process ends.
print_parts() {
    [ -z "$running" ] || note_part " (ended here)"
    say "How long each part took"
    printf '%s\n' "${parts[@]}" "$(printf '%6d s  all of it' "$SECONDS")" >&2
}

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

# need_tool CRATE VERSION [OPTION…]: builds the crate's program unless that was done, and puts it in PATH. Each OPTION is for cargo.
need_tool() {
    local prefix=$cache/$1-$2
    if [ ! -d "$prefix/bin" ]; then
        say "Building $1 $2 (a minute or two, once)"
        # Not optimised, as it has little to do: that takes a fraction of the time. In a folder of its own, which cargo removes.
        env -u CARGO_TARGET_DIR CARGO_PROFILE_DEV_DEBUG=0 \
            cargo install --quiet --locked --debug --version "$2" --root "$prefix" "${@:3}" "$1"
    fi
    PATH=$prefix/bin:$PATH
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

# Without links, as a root that it was built in may have the folder and not the link.
prefix_of() { realpath -m "${NIX_PREFIX:-$cache/nix-$1}"; }
bin_of() { echo "$(prefix_of "$1")/bin"; }
# All of the version of a Nix that is known by its beginning.
nix_version() { sed -n 's/^Version: *//p' "$(prefix_of "$1")/lib/pkgconfig/nix-store.pc"; }
# The version of Determinate Nix that a program prints; nothing for any other Nix. Its headers say the version of the Nix that it is
# based on.
determinate_version() { "$1" --version 2>/dev/null | sed -n 's/.*(Determinate Nix \([^)]*\)).*/\1/p'; }
# The folder of the plugin for a Nix.
folder_of() {
    local own
    own=$(determinate_version "$(bin_of "$1")/nix")
    if [ -n "$own" ]; then echo "determinate-nix-$own"; else echo "nix-$(nix_version "$1")"; fi
}
# Where the source of a Nix is, with its tests.
source_of() {
    if [ -n "${NIX_SOURCE:-}" ]; then
        echo "$NIX_SOURCE"
    elif [ "$1" = 2.8 ]; then
        echo "$(prefix_of "$1")"/source/nix-*/
    elif [ -L "$cache/nix-$1-source" ]; then
        realpath "$cache/nix-$1-source"
    else
        echo "$cache/nix-$1-source"/nix-*/
    fi
}
# The versions that build.rs supports, one a line.
supported_versions() {
    listed_in_build SUPPORTED
    listed_in_build DETERMINATE | sed 's/^/determinate-/'
}
listed_in_build() { sed -n "/^const $1:/{:more;/;\$/!{N;b more};p}" "$project/build.rs" | grep -oE '\([0-9]+, [0-9]+\)' | tr -d '() ' | tr , .; }
# What plugin-files names, with everything built as usual or with a feature: loader_of [FEATURE]
loader_of() { echo "$installed${1:+-$1}/lib/nix-negative-cache/loader/libnix_negative_cache.so"; }

# A source of Debian packages for the given suite, at the mirror that this machine uses.
mirror() { mirror_of bookworm; }
# The same for packages that only this suite of Debian 12 has: mirror_of SUITE
mirror_of() {
    local found
    found=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $1" | head -n1)
    [ -n "$found" ] || die "apt knows no mirror of Debian 12 ($1): run this on Debian 12, after 'apt-get update'"
    echo "$found"
}

# get_nix VERSION: sees to it that the Nix is there, with headers, in `prefix_of VERSION`.
get_nix() {
    is_in "$1" "${all_versions[@]}" ||
        die "there is no Nix $1 here, but ${all_versions[*]}; to add one that was built: ./dev nix add PREFIX [SOURCE]"
    if [ -n "${NIX_PREFIX:-}" ]; then
        :
    elif is_in "$1" "${recipe_versions[@]}"; then
        "$project/scripts/get-nix-$1" "$project" "$cache"
    else
        [ -x "$(bin_of "$1")/nix" ] || die "the Nix $1 that was added is gone from $(prefix_of "$1"); remove $cache/nix-$1"
    fi
}

# add_nix PREFIX [SOURCE]: from now on, the Nix that is installed there is one of those at hand.
add_nix() {
    local prefix source=${2:-} version own name said
    prefix=$(realpath -e "$1" 2>/dev/null) || die "there is no folder '$1'"
    version=$(sed -n 's/^Version: *//p' "$prefix/lib/pkgconfig/nix-store.pc" 2>/dev/null) ||
        die "'$prefix' has no lib/pkgconfig/nix-store.pc: it is not where a Nix with headers is installed"
    said=$("$prefix/bin/nix" --version 2>&1) || die "'$prefix/bin/nix' does not run here: $said"
    [ "${said##* }" = "$version" ] || die "'$prefix/bin/nix' says '$said', and its headers are those of $version"
    own=$(determinate_version "$prefix/bin/nix")
    name=$(grep -oE '^[0-9]+\.[0-9]+' <<<"${own:-$version}") || die "Nix has the odd version '${own:-$version}'"
    name=${own:+determinate-}$name
    supported_versions | grep -xF "$name" >/dev/null || die "this is '$said'; the plugin supports" "$(supported_versions | xargs)"
    ! is_in "$name" "${recipe_versions[@]}" ||
        die "./dev gets Nix $name itself; for a single run with this one: NIX_PREFIX=$prefix ./dev …"
    if [ -n "$source" ]; then
        source=$(realpath -e "$source" 2>/dev/null) || die "there is no folder '$2'"
        [ -d "$source/tests/functional" ] || die "'$source' is not the source of Nix: it has no tests/functional"
    fi
    mkdir -p "$cache"
    rm -f "$cache/nix-$name-source"
    [ -z "$source" ] || ln -s "$source" "$cache/nix-$name-source"
    ln -sfn "$prefix" "$cache/nix-$name"
    say "'$said' is one of those at hand, as $name${source:+, with its source}; to forget it, remove $cache/nix-$name"
}

# install_build PREFIX FOLDER PLUGIN: puts the loader, a plugin and the companion program where they belong below PREFIX.
# Nothing that is there already and may be in use is written over.
install_build() {
    local prefix=$1 folder=$2 plugin=$3 libraries=$1/lib/nix-negative-cache built=$target/companion/$release
    install -CD "$built/libnix_negative_cache_loader.so" "$libraries/loader/libnix_negative_cache.so"
    install -CD "$plugin" "$libraries/$folder/libnix_negative_cache.so"
    install -CD -t "$prefix/bin" "$built/nix-negative-cache" "$built/nix-negative-cache-shim"
}

# What is built with these is only tested, and need not be small or fast.
quickly=(CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1)

# with_nix VERSION COMMAND…: runs a command that compiles something against that Nix.
with_nix() {
    local prefix variables
    prefix=$(prefix_of "$1")
    shift
    variables=("PKG_CONFIG_PATH=$prefix/lib/pkgconfig")
    # A Nix that was built in a root of its own needs that root's compiler and headers.
    [ ! -d "$prefix/tools" ] ||
        variables+=("NNC_PROJECT=$project" "PKG_CONFIG=$prefix/tools/pkg-config" "CXX=$prefix/tools/g++")
    env "${variables[@]}" "$@"
}

# for_arm64: from now on, everything is built for arm64, to be tested, in a folder of its own. Its programs run under QEMU. The only
# Nix is then Debian 12's, by the name 2.8-arm64.
for_arm64() {
    local commands=$cache/arm64/bin
    recipe_versions=(2.8-arm64) all_versions=(2.8-arm64)
    target=$target/arm64
    installed=$target/installed companion_folder=$target/emulated
    release=aarch64-unknown-linux-gnu/release
    build_options=("${quickly[@]}" "PATH=$commands:$PATH" CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=run PKG_CONFIG=aarch64-linux-gnu-pkg-config)
    mkdir -p "$companion_folder" "$target/companion"
    # What they depend on is compiled once.
    ln -sfn companion "$target/nix-2.8-arm64"
    printf '#!/bin/bash-static\nexec %q/run -0 nix-negative-cache %q/bin/nix-negative-cache "$@"\n' "$commands" "$installed" \
        >"$companion_folder/nix-negative-cache"
    chmod +x "$companion_folder/nix-negative-cache"
}

# is_at_least VERSION OTHER: whether that Nix, or the Nix that a Determinate Nix is based on, is not older than another version.
is_at_least() { printf '%s\n' "$2" "$(nix_version "$1")" | sort --check=quiet -V; }
# has_c_api VERSION: whether the programs of that Nix may export the C API, which bindgen then reads.
has_c_api() { is_at_least "$1" 2.35; }

# build_companion: builds the loader and the companion program.
build_companion() {
    need_rust
    (
        cd "$project" || exit
        env "CARGO_TARGET_DIR=$target/companion" "${build_options[@]}" cargo build --quiet --locked --release \
            -p nix-negative-cache -p nix-negative-cache-loader
    )
}

# build_plugin VERSION [FEATURE]: builds the plugin for that Nix, the loader and the companion program, and installs them in
# $installed or $installed-FEATURE. Says nothing if there is nothing to do. What has a feature is for tests.
build_plugin() {
    local version=$1 feature=${2:-} folder=$target/nix-$1${2:+-for-tests} other
    build_companion
    if has_c_api "$version" || [ "$feature" = c-api-of-every-nix ]; then need_packages libclang1-14 libclang-common-14-dev; fi
    # What the plugin depends on is the same for all Nixes, and compiled once.
    if [ ! -e "$folder" ] && [ -z "$feature" ]; then
        for other in "$target"/nix-*.*/release; do
            [[ ! -d $other || $other == *-for-tests/* ]] || { cp -a "${other%/release}" "$folder"; break; }
        done
    fi
    (
        cd "$project" || exit
        [ -e "$installed${feature:+-$feature}/lib/nix-negative-cache/$(folder_of "$version")" ] ||
            say "Building the plugin for Nix $version${feature:+ with $feature}"
        options=("${build_options[@]}")
        [ -z "$feature" ] || options+=("${quickly[@]}")
        with_nix "$version" env "CARGO_TARGET_DIR=$folder" "${options[@]}" \
            cargo build --quiet --locked --release -p nix-negative-cache-plugin ${feature:+--features "$feature"}
        install_build "$installed${feature:+-$feature}" "$(folder_of "$version")" "$folder/$release/libnix_negative_cache.so"
    )
}
