//! The captures of Tailscale's own answers, where they are at hand.

#[path = "../../examples/conformance/capture.rs"]
pub mod capture;
#[path = "../../examples/conformance/harness.rs"]
pub mod harness;
#[path = "../../examples/conformance/meaning.rs"]
mod meaning;
#[path = "../../examples/conformance/oracles.rs"]
mod oracles;

use std::path::Path;

/// Answers that agree, by oracle: all there are in the data, but for those that the data contradicts itself.
const REACHED: [(&str, usize); 10] = [
    ("filters", 4_661),
    ("decisions", 224_840),
    ("peers", 4_661),
    ("allowed addresses", 24_021),
    ("primary routes", 4_661),
    ("node capabilities", 4_661),
    ("peer capabilities", 24_025),
    ("pair capabilities", 3_584),
    ("ssh rules", 870),
    ("refusals", 483),
];

#[test]
fn the_engine_answers_as_tailscale_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    if !folder.is_dir() {
        println!("not run: there are no captures at {}", folder.display());
        return;
    }
    let cases = capture::read_folder(&folder).expect("the captures can be read");
    let report = harness::run(&cases);
    let reached: Vec<(&str, usize)> =
        report.counts.iter().map(|count| (count.oracle, count.matched)).collect();
    assert!(report.is_clean(), "{report}");
    assert_eq!(reached, REACHED, "{report}");
}
