use std::process::Command;

use writ_compliance::catalogue;
use writ_compliance::evidence::{Snapshot, gather};
use writ_compliance::render::{html, pdf};
use writ_compliance::report::{Report, build};
use writ_compliance::text::Lang;
use writ_compliance::wording::Wording;

use crate::scene::{Scene, month};

fn report_of(framework: &str, lang: Lang) -> Report {
    let framework = catalogue::named(framework).unwrap();
    let snapshot = gather(&month(), &framework).unwrap();
    build(&framework, &snapshot, &Wording::load(lang).unwrap())
}

fn every_report() -> Vec<Report> {
    let both =
        Lang::ALL.into_iter().flat_map(|lang| catalogue::names().map(move |name| report_of(name, lang)));
    both.collect()
}

/// The words of a page: what stands outside of tags and of the style sheet.
fn visible(page: &str) -> String {
    let (head, rest) = page.split_once("<style>").unwrap();
    let (_, body) = rest.split_once("</style>").unwrap();
    let page = format!("{head}{body}");
    let outside: Vec<&str> =
        page.split('<').filter_map(|part| part.split_once('>').map(|(_, text)| text)).collect();
    outside.join(" ")
}

#[test]
fn the_words_that_must_never_appear_do_not() {
    for report in every_report() {
        let (text, json) =
            (visible(&html(&report)).to_lowercase(), String::from_utf8(report.to_json().unwrap()).unwrap());
        for forbidden in
            ["compliant", "konform", "erfüllt", "%", "percent", "prozent", "certified", "zertifiziert"]
        {
            assert!(!text.contains(forbidden), "{forbidden} in {} {}", report.framework, report.lang);
            assert!(!json.to_lowercase().contains(forbidden), "{forbidden} in the JSON");
        }
    }
}

#[test]
fn no_placeholder_is_left_in_a_page() {
    for report in every_report() {
        let text = visible(&html(&report));
        assert!(!text.contains('{') && !text.contains('}'), "{} {}", report.framework, report.lang);
    }
}

#[test]
fn the_same_records_and_framework_give_the_same_bytes() {
    let (first, second) = (report_of("nis2", Lang::De), report_of("nis2", Lang::De));
    assert_eq!(html(&first), html(&second));
    assert_eq!(first.to_json().unwrap(), second.to_json().unwrap());
    assert!(pdf(&first).unwrap() == pdf(&second).unwrap(), "two renderings of one report differ");
}

#[test]
fn a_pdf_says_all_that_a_page_says() {
    let report = report_of("dora", Lang::En);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.pdf");
    std::fs::write(&path, pdf(&report).unwrap()).unwrap();
    let text = match Command::new("pdftotext").arg("-layout").arg(&path).arg("-").output() {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).unwrap(),
        Ok(output) => panic!("pdftotext refuses the file: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => return eprintln!("skipped: pdftotext cannot be run: {error}"),
    };
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for control in report.controls() {
        assert!(flat.contains(&control.number), "{} is missing", control.number);
        assert!(flat.contains(&control.status_name), "{} is missing", control.status_name);
    }
    assert!(flat.contains("2026-10-01 00:00:00 UTC"), "the period is missing");
    for forbidden in ["ompliant", "%", "ercent"] {
        assert!(!flat.contains(forbidden), "{forbidden} in the PDF");
    }
}

#[test]
fn an_empty_report_renders_too() {
    let framework = catalogue::named("nis2").unwrap();
    let snapshot = Scene::default().snapshot(&framework);
    let report = build(&framework, &snapshot, &Wording::load(Lang::En).unwrap());
    assert!(visible(&html(&report)).contains("NO DATA"));
    assert!(pdf(&report).unwrap().starts_with(b"%PDF-"));
}

#[test]
fn hostile_strings_stay_text() {
    const HOSTILE: &str =
        "\"><script>alert(1)</script><img src=x onerror='a()'> #import \"x\" $ \\ [ ] & \u{0}";
    let framework = catalogue::named("nis2").unwrap();
    let Snapshot { mut scope, entries } = gather(&month(), &framework).unwrap();
    scope.network = HOSTILE.to_owned();
    if let Some(checkpoint) = &mut scope.checkpoint {
        checkpoint.origin = HOSTILE.to_owned();
    }
    let mut report = build(&framework, &Snapshot { scope, entries }, &Wording::load(Lang::En).unwrap());
    let printable = HOSTILE.trim_end_matches('\u{0}');
    report.chapters[0].title = printable.to_owned();
    report.chapters[0].controls[0].id = printable.to_owned();
    report.chapters[0].controls[0].number = printable.to_owned();
    let page = html(&report);
    assert!(!page.contains("<script") && !page.contains("<img") && page.contains("&lt;script&gt;"));
    assert!(!page.contains("onerror='") && !page.contains('\u{0}'));
    pdf(&report).unwrap();
}

#[test]
fn pages_load_nothing_from_elsewhere() {
    for report in every_report() {
        let page = html(&report);
        assert!(!page.contains("<script") && !page.contains("<link") && !page.contains("url("));
        assert!(
            !page.replace("http://www.w3.org/2000/svg", "").contains("://"),
            "an address in {}",
            report.framework
        );
    }
}

/// Writes every report where a person can look at it: `WRIT_REPORTS=DIR cargo test -p writ-compliance`.
#[test]
fn reports_for_a_look() {
    let Some(dir) = std::env::var_os("WRIT_REPORTS") else {
        return eprintln!("skipped: WRIT_REPORTS names no directory");
    };
    let dir = std::path::PathBuf::from(dir);
    for report in every_report() {
        let name = format!("{}-{}", report.framework, report.lang);
        std::fs::write(dir.join(format!("{name}.html")), html(&report)).unwrap();
        std::fs::write(dir.join(format!("{name}.pdf")), pdf(&report).unwrap()).unwrap();
    }
}
