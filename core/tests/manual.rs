//! The tables of the manual are those of the code. On failure, the right table is printed, to be copied.

use nix_negative_cache_core::class::Class;
use nix_negative_cache_core::environment::FACTORS;

const MANUAL: &str = include_str!("../../docs/manual.md");

#[track_caller]
fn is_in_the_manual(table: &str) {
    assert!(MANUAL.contains(table), "docs/manual.md does not have this table:\n\n{table}");
}

#[test]
fn classes() {
    let mut table = "| Class | Rule | Recorded | Source |\n| --- | --- | --- | --- |\n".to_owned();
    for class in Class::ALL {
        let description = class.description();
        table.push_str(&format!(
            "| `{class}` | {} | {} | {} |\n",
            description.rule, description.recorded, description.source
        ));
    }
    is_in_the_manual(&table);
}

#[test]
fn environment() {
    let mut table = "| What | Built again after | Because |\n| --- | --- | --- |\n".to_owned();
    for factor in FACTORS {
        let only = factor.only.map(|class| format!(" (class `{class}` only)")).unwrap_or_default();
        let name = if factor.setting { format!("`{}`", factor.name) } else { factor.name.to_owned() };
        table.push_str(&format!("| {name}{only} | {} | {} |\n", factor.direction, factor.why));
    }
    is_in_the_manual(&table);
}
