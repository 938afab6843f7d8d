//! `nix-negative-cache report`: a page for browsers. Chromium opens it here, and says what it makes of it.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use nix_negative_cache_tests::{Ran, Scratch, left_out};

/// What `chromium-headless-shell` is called with. Root has no sandbox there. No host has an address, should any be asked for.
const BROWSER: &str = "chromium-headless-shell --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars \
     --host-resolver-rules='MAP * ~NOTFOUND' --enable-logging=stderr --user-data-dir=../browser";

/// A log that would do things if a browser took it for a part of the page.
const MARKUP: &str = "</pre><script>document.title = \"taken over\"</script><img src=http://192.0.2.1/pixel>";

/// Records of `bad`, which blocks `top` and `app`; of `flaky`, which has succeeded since; and of `other`.
fn with_failures() -> Scratch {
    let nix = Scratch::new();
    nix.write("work/log", MARKUP);
    nix.expression(
        r#"rec {
            bad = drv "bad-1.0" "cat ${./log}; echo; exit 1" { };
            app = needs "app-2.0" [ bad ];
            top = needs "top-3.0" [ app ];
            flaky = drv "flaky-1.0" "[ -e ${builtins.toString ./.}/server ] && echo done > $out || exit 7" { };
            other = fail "other-1.0";
        }"#,
    );
    nix.run("nix-instantiate -A top; nix-build -A flaky; nix-build -A other; nix-build -A bad").exits(100);
    nix.run("touch server; nix-build --no-out-link -A flaky --option negative-cache-retry true").exits(0);
    nix.run("nix-build -A bad").exits(100);
    nix
}

/// The page that the browser has made of `report.html`, opened at this fragment. The page's own script has nothing to complain
/// about.
fn opened(nix: &Scratch, fragment: &str) -> String {
    let ran = nix.run(&format!("{BROWSER} --dump-dom 'file://'$PWD/report.html'{fragment}'")).exits(0);
    assert!(!ran.stderr.contains(":CONSOLE"), "{}", ran.stderr);
    ran.stdout
}

fn report(nix: &Scratch) -> Ran {
    nix.run("$COMPANION report report.html").exits(0)
}

/// The names of the failures that the browser shows.
fn shown(page: &str) -> Vec<&str> {
    let items = page.split("<li id=\"failure-").skip(1);
    let shown = items.filter(|item| !item.split('>').next().unwrap_or_default().contains("hidden"));
    shown.filter_map(|item| item.split_once("class=\"name\">")?.1.split('<').next()).collect()
}

#[test]
fn a_page_says_what_failed_what_that_blocks_and_what_is_flaky() {
    if left_out() {
        return;
    }
    let nix = with_failures();
    // What was saved, as it is counted.
    let day = "strftime('%s', 'now') / 86400";
    let refusals = format!(
        "DELETE FROM refusal; INSERT INTO refusal VALUES (1, {day}, 'x.drv', 'x', 's', 'builder', '', 3, 7500000), \
         (2, {day} - 2, 'x.drv', 'x', 's', 'builder', '', 1, 60000)"
    );
    nix.run(&format!("sqlite3 {} \"{refusals}\"", nix.database().display())).exits(0);
    report(&nix);
    let page = opened(&nix, "");
    assert_eq!(shown(&page), ["bad-1.0", "other-1.0", "flaky-1.0"], "{page}");
    for part in [
        "<span class=\"name\">bad-1.0</span> <span class=\"what\">blocks 2 derivations</span>",
        "<li>app-2.0</li>\n<li>top-3.0</li>",
        "<span class=\"name\">flaky-1.0</span> <span class=\"what\">failed 1 of 2</span>",
        "UTC: failed, builder (7)</li>",
        "UTC: succeeded</li>",
        "builder (3)",
        "it is broken",
        "not now: succeeded since",
        "builder failed with exit code 1, after ",
        "<dt>Builds refused</dt><dd>4</dd>",
        "<dt>Time saved</dt><dd>2 h 6 m</dd>",
        "<td>0</td><td>1</td><td>1 m</td>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    // Both plots have a bar, and say in words what they show.
    let plots: Vec<&str> = page.split("<svg ").skip(1).map(|svg| svg.split("</svg>").next().unwrap()).collect();
    assert_eq!(plots.len(), 2, "{page}");
    assert!(plots.iter().all(|plot| plot.contains("<rect ") && plot.contains("role=\"img\"")), "{plots:?}");
    assert!(plots[0].contains("3 failures from ") && plots[1].contains("126 minutes from "), "{plots:?}");
}

/// Of counts of days long ago only the sum is kept, in rows of the day 0.
#[test]
fn what_was_counted_long_ago_counts_without_a_day() {
    if left_out() {
        return;
    }
    let nix = with_failures();
    let sql = "DELETE FROM refusal; INSERT INTO refusal VALUES (1, 0, '', '', '', 'builder', '', 100, 36000000), \
         (2, strftime('%s', 'now') / 86400, 'x.drv', 'x', 's', 'builder', '', 1, 3600000); \
         INSERT INTO judged VALUES (0, 'builder', 'recorded', 5000)";
    nix.run(&format!("sqlite3 {} \"{sql}\"", nix.database().display())).exits(0);
    let page = |options: &str| {
        nix.run(&format!("$COMPANION report report.html {options}")).exits(0);
        fs::read_to_string(nix.path("work/report.html")).unwrap()
    };
    let all = page("");
    for part in ["<dt>Builds refused</dt><dd>101</dd>", "<dt>Time saved</dt><dd>11 h</dd>"] {
        assert!(all.contains(part), "{part}: {all}");
    }
    // The plots begin with the first day that has something, and show two weeks at least.
    let (first, rest) =
        all.split_once(" failures from ").and_then(|(_, rest)| rest.split_once(" to ")).expect("a plot");
    let last = &rest[..first.len()];
    nix.run(&format!("sqlite3 :memory: \"SELECT julianday('{last}') - julianday('{first}')\"")).exits(0).prints("13.0");
    for wrong in [">1970-", "<td>5000</td>"] {
        assert!(!all.contains(wrong), "{wrong}: {all}");
    }
    // They are of no time that could be asked for.
    let some = page("--since 2d");
    assert!(some.contains("<dt>Builds refused</dt><dd>1</dd>"), "{some}");
}

#[test]
fn failures_are_found_by_words_of_their_names_and_logs() {
    if left_out() {
        return;
    }
    let nix = with_failures();
    report(&nix);
    for (fragment, found) in [
        ("#filter=other", vec!["other-1.0"]),
        ("#filter=BROKEN%20exit", vec!["other-1.0"]),
        ("#filter=192.0.2.1", vec!["bad-1.0"]),
        ("#filter=not%20now", vec!["flaky-1.0"]),
        ("#filter=no%20such%20thing", vec![]),
        ("#filter=", vec!["bad-1.0", "other-1.0", "flaky-1.0"]),
        ("#filter=%", vec![]),
        ("#elsewhere", vec!["bad-1.0", "other-1.0", "flaky-1.0"]),
    ] {
        let page = opened(&nix, fragment);
        assert_eq!(shown(&page), found, "{fragment}");
        let all = format!("{} of 3</p>", found.len());
        assert_eq!(page.contains(&all), fragment.starts_with("#filter=") && fragment.len() > 8, "{fragment}");
    }
    // A link to a failure opens it.
    assert_eq!(opened(&nix, "#failure-2").matches("<details open=\"\">").count(), 1);
    // Without its script, the page lacks the field and nothing else.
    let page = fs::read_to_string(nix.path("work/report.html")).unwrap();
    assert!(page.contains("<search id=\"search\" hidden>") && shown(&page).len() == 3);
}

#[test]
fn logs_are_text() {
    if left_out() {
        return;
    }
    let nix = with_failures();
    report(&nix);
    let page = opened(&nix, "");
    assert!(page.contains("&lt;/pre&gt;&lt;script&gt;document.title"), "{page}");
    assert_eq!((page.matches("<script").count(), page.matches("<img").count()), (1, 0));
    assert!(!page.contains("<title>taken over"), "{page}");
}

/// What the browser asked the network for when it opened a page: URLs, and hosts whose address it wanted. Files are not among them,
/// and of its own accord this browser asks for nothing.
fn requests(nix: &Scratch, page: &str) -> Vec<String> {
    nix.run(&format!("{BROWSER} --log-net-log=$PWD/net.json --dump-dom file://$PWD/{page} && [ -s net.json ]"))
        .exits(0);
    let log = fs::read_to_string(nix.path("work/net.json")).unwrap();
    let values = ["\"url\":\"", "\"host\":\""].into_iter().flat_map(|start| log.split(start).skip(1));
    let asked = values.map(|rest| rest.split('"').next().unwrap_or_default().to_owned());
    asked.filter(|asked| !asked.is_empty() && !asked.starts_with("file:")).collect()
}

#[test]
fn a_page_asks_for_nothing() {
    if left_out() {
        return;
    }
    let nix = with_failures();
    report(&nix);
    assert_eq!(requests(&nix, "report.html"), Vec::<String>::new());
    // Nor would it if a log became markup.
    let page = fs::read_to_string(nix.path("work/report.html")).unwrap();
    let raw = page.replace("&lt;", "<").replace("&gt;", ">").replace("&#60;", "<").replace("&#62;", ">");
    nix.write("work/raw.html", &raw);
    let ran = nix.run(&format!("{BROWSER} --dump-dom file://$PWD/raw.html")).exits(0);
    assert!(ran.stdout.contains("<img src=\"http://192.0.2.1/pixel\">"), "{ran}");
    assert!(!ran.stdout.contains("<title>taken over") && ran.stderr.contains("Content Security Policy"), "{ran}");
    assert_eq!(requests(&nix, "raw.html"), Vec::<String>::new());
    // This is what it looks like if a page does ask.
    let unguarded = raw.lines().filter(|line| !line.contains("Content-Security-Policy"));
    nix.write("work/unguarded.html", &unguarded.collect::<Vec<_>>().join("\n"));
    let asked = requests(&nix, "unguarded.html");
    assert!(
        ["http://192.0.2.1/pixel", "192.0.2.1"].iter().all(|part| asked.iter().any(|asked| asked == part)),
        "{asked:?}"
    );
}

/// Adds copies of the newest record, each with paths of its own.
fn add_failures(nix: &Scratch, count: u32, log: &str) {
    let columns = "system, class, exit_code, message, first_failure, last_failure, attempts, duration_ms, host, nix_version, \
        plugin_version, store_dir, used, scope";
    let sql = format!(
        "PRAGMA synchronous = off; BEGIN;
         CREATE TEMP TABLE number AS WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count}) SELECT n FROM n;
         CREATE TEMP TABLE start AS SELECT max(id) AS id FROM failure;
         INSERT INTO failure (id, drv_path, name, log, {columns})
             SELECT start.id + n, store_dir || '/' || printf('%032d', n) || '-many-' || n || '.drv', 'many-' || n, {log}, {columns}
             FROM failure, number, start WHERE failure.id = start.id;
         INSERT INTO output (path, failure, name)
             SELECT store_dir || '/' || printf('%032d', failure.id) || '-' || failure.name, failure.id, 'out'
             FROM failure, start WHERE failure.id > start.id;
         INSERT INTO attempt (failure, time, class, exit_code, environment)
             SELECT failure.id, attempt.time, attempt.class, attempt.exit_code, environment
             FROM failure, start, attempt WHERE attempt.failure = start.id AND failure.id > start.id;
         COMMIT;"
    );
    nix.write("work/many.sql", &sql);
    nix.run(&format!("sqlite3 {} < many.sql", nix.database().display())).exits(0);
}

#[test]
fn a_page_of_10_000_failures_is_bounded() {
    if left_out() {
        return;
    }
    let nix = Scratch::new();
    nix.expression(r#"{ other = fail "other-1.0"; }"#);
    nix.run("nix-build -A other").exits(100);
    // As long as logs get.
    add_failures(
        &nix,
        10_099,
        "replace(hex(zeroblob(4000)), '00000000000000000000000000000000000000', '0123456789 makes a line <of> a log' || char(10))",
    );
    report(&nix);
    let size = fs::metadata(nix.path("work/report.html")).unwrap().len();
    assert!((20 << 20..36 << 20).contains(&size), "{size}");
    let page = opened(&nix, "#filter=many-9999");
    assert_eq!(page.matches("<li id=\"failure-").count(), 10_000);
    assert_eq!(shown(&page), ["many-9999"]);
    assert!(page.contains("100 older failures are counted above, and not listed here."));
    assert!(page.contains("<dd>10100</dd>"));
}

#[test]
fn a_page_is_about_a_span_of_time() {
    if left_out() {
        return;
    }
    let nix = with_failures();
    nix.run(&format!(
        "sqlite3 {} \"UPDATE failure SET last_failure = last_failure - 864000000 WHERE name = 'other-1.0'\"",
        nix.database().display()
    ))
    .exits(0);
    nix.run("$COMPANION report report.html --since 2d").exits(0);
    assert_eq!(shown(&opened(&nix, "")), ["bad-1.0", "flaky-1.0"]);
    nix.run("$COMPANION report report.html --since soon").exits(2).says("--since");
}

#[test]
fn a_page_is_written_at_once_or_not_at_all() {
    if left_out() {
        return;
    }
    let nix = with_failures();
    nix.run("mkdir folder; $COMPANION report folder/report.html && ls -A folder").exits(0).prints("report.html");
    nix.run("$COMPANION report no/such/report.html")
        .exits(1)
        .says("cannot write 'no/such/report.html': No such file or directory");
    nix.run("$COMPANION report folder").exits(1).says("cannot write 'folder': Is a directory");
    nix.run("$COMPANION report /dev/full").exits(1).says("cannot write '/dev/full': No space left on device");
    let printed = nix.run("$COMPANION report -").exits(0).stdout;
    assert!(printed.starts_with("<!DOCTYPE html>\n") && printed.ends_with("</html>\n"), "{printed}");
    nix.run("set -o pipefail; $COMPANION report - | head -c 10").exits(0).prints("<!DOCTYPE");
}

#[test]
fn what_is_blocked_may_not_be_known() {
    if left_out() {
        return;
    }
    let nix = with_failures();
    nix.run("PATH=/nonexistent $COMPANION report report.html").exits(0);
    let page = opened(&nix, "");
    assert!(page.contains("It is not known: cannot run 'nix-store'"), "{page}");
    nix.run("nix-store --gc; $COMPANION report report.html").exits(0);
    let page = opened(&nix, "");
    assert!(page.contains("What needs 2 of 2 failures is not known"), "{page}");
}

/// Takes a picture, which stays for people to look at.
fn picture(nix: &Scratch, scheme: &str, width: u32, height: u32) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join(format!("{scheme}-{width}.png"));
    let _ = fs::remove_file(&file);
    let preferred = if scheme == "dark" { 0 } else { 1 };
    nix.run(&format!(
        "{BROWSER} --blink-settings=preferredColorScheme={preferred} --window-size={width},{height} --screenshot={} \
         file://$PWD/report.html",
        file.display()
    ))
    .exits(0);
    file
}

/// How bright a picture is, from 0 to 255: the darkest thousandth of it, the middle, and the brightest thousandth. The browser
/// counts.
fn brightness(nix: &Scratch, picture: &[u8]) -> [f64; 3] {
    const COUNT: &str = "onload = () => {
        const canvas = document.createElement('canvas'), draw = canvas.getContext('2d'), points = [];
        [canvas.width, canvas.height] = [picture.width, picture.height];
        draw.drawImage(picture, 0, 0);
        const { data } = draw.getImageData(0, 0, canvas.width, canvas.height);
        for (let i = 0; i < data.length; i += 4) points.push((data[i] + data[i + 1] + data[i + 2]) / 3);
        points.sort((one, other) => one - other);
        document.title = [.001, .5, .999].map(part => Math.round(points[Math.floor(points.length * part)])).join(' ');
    };";
    let picture = BASE64_STANDARD.encode(picture);
    let page = format!(
        "<!DOCTYPE html><title>?</title><script>{COUNT}</script><img id=picture src='data:image/png;base64,{picture}'>"
    );
    nix.write("work/picture.html", &page);
    let ran = nix.run(&format!("{BROWSER} --dump-dom file://$PWD/picture.html | grep -o '<title>.*</title>'")).exits(0);
    let counted = ran.stdout.trim().trim_start_matches("<title>").trim_end_matches("</title>").split(' ');
    let counted: Vec<f64> = counted.map(|part| part.parse().unwrap_or_else(|_| panic!("{ran}"))).collect();
    counted.try_into().unwrap_or_else(|_| panic!("{ran}"))
}

#[test]
fn pictures_in_light_and_dark() {
    if left_out() {
        return;
    }
    let nix = with_failures();
    add_failures(&nix, 40, "log");
    report(&nix);
    for (width, height) in [(1280, 1600), (400, 2200)] {
        let [light, dark] = ["light", "dark"].map(|scheme| fs::read(picture(&nix, scheme, width, height)).unwrap());
        assert!(light.starts_with(b"\x89PNG") && dark.starts_with(b"\x89PNG"));
        // What is written on it differs from what it is written on.
        let [light, dark] = [brightness(&nix, &light), brightness(&nix, &dark)];
        let is_light = matches!(light, [ink, ground, _] if ground > 230.0 && ink < 128.0);
        let is_dark = matches!(dark, [_, ground, ink] if ground < 64.0 && ink > 128.0);
        assert!(is_light && is_dark, "{width}: {light:?} {dark:?}");
    }
}
