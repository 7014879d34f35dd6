//! One self-contained page: no scripts, no fonts, pictures or styles from anywhere else.

use std::fmt::Write;

use crate::chart::{escape, mark_image};
use crate::report::{ChapterSection, ControlSection, Field, Figure, Report};

const STYLE: &str = include_str!("../../templates/report.css");

/// The report as a page. Everything that is not markup of ours is escaped.
pub fn html(report: &Report) -> String {
    let label = |key: &str| escape(report.label(key));
    let (title, subtitle) = (label("title"), escape(&report.subtitle));
    let mut out = String::with_capacity(64 * 1024);
    // Writing into a String cannot fail, here and below.
    let _ = write!(
        out,
        r#"<!DOCTYPE html>
<html lang="{lang}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<title>{title}: {subtitle}</title>
<style>{STYLE}</style>
</head>
<body>
<header class="cover">
<p class="kind">{kind}</p>
<h1>{title}</h1>
<p class="subtitle">{subtitle}</p>
{scope}
<p class="draft">{draft}</p>
</header>
<nav aria-label="{contents}"><h2>{contents}</h2><ol>"#,
        lang = report.lang.code(),
        kind = label("kind"),
        draft = label("draft"),
        scope = fields(&report.scope),
        contents = label("contents"),
    );
    for (anchor, key) in ANCHORS {
        let _ = write!(out, r##"<li><a href="#{anchor}">{}</a></li>"##, label(key));
    }
    out.push_str("</ol></nav>\n<main>\n");
    summary(&mut out, report);
    reading(&mut out, report);
    figures(&mut out, report);
    let _ = write!(out, r#"<section id="controls"><h2>{}</h2>"#, label("controls.heading"));
    for chapter in &report.chapters {
        chapter_section(&mut out, report, chapter);
    }
    out.push_str("</section>\n");
    declaration(&mut out, report);
    data(&mut out, report);
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

const ANCHORS: [(&str, &str); 6] = [
    ("summary", "summary.heading"),
    ("reading", "reading.heading"),
    ("charts", "charts.heading"),
    ("controls", "controls.heading"),
    ("declaration", "declaration.heading"),
    ("data", "chart.data"),
];

fn fields(fields: &[Field]) -> String {
    let mut out = String::from(r#"<dl class="fields">"#);
    for field in fields {
        let (label, value) = (escape(&field.label), escape(&field.value));
        let class = if field.literal { r#" class="literal""# } else { "" };
        let _ = write!(out, "<div><dt>{label}</dt><dd{class}>{value}</dd></div>");
    }
    out.push_str("</dl>");
    out
}

fn badge(control: &ControlSection) -> String {
    let mark = mark_image(control.status);
    format!(r#"<span class="status {}">{mark}{}</span>"#, control.slug, escape(&control.status_name))
}

fn summary(out: &mut String, report: &Report) {
    let label = |key: &str| escape(report.label(key));
    let _ = write!(
        out,
        r#"<section id="summary"><h2>{}</h2><p>{}</p>"#,
        label("summary.heading"),
        label("summary.intro")
    );
    if let Some(figure) = report.figures.first() {
        figure_section(out, figure);
    }
    let _ = write!(
        out,
        r#"<table class="overview"><caption class="hidden">{}</caption><thead><tr><th scope="col">{}</th><th scope="col">{}</th><th scope="col">{}</th></tr></thead><tbody>"#,
        label("summary.heading"),
        label("column.control"),
        label("column.title"),
        label("column.status"),
    );
    for control in report.controls() {
        let _ = write!(
            out,
            r##"<tr><th scope="row"><a href="#{}">{}</a></th><td>{}</td><td>{}</td></tr>"##,
            escape(&control.id),
            escape(&control.number),
            escape(&control.title),
            badge(control),
        );
    }
    out.push_str("</tbody></table></section>\n");
}

fn reading(out: &mut String, report: &Report) {
    let label = |key: &str| escape(report.label(key));
    let _ = write!(
        out,
        r#"<section id="reading"><h2>{}</h2><p>{}</p><ul>"#,
        label("reading.heading"),
        label("reading.levels")
    );
    for key in ["reading.could", "reading.authorised", "reading.talked", "reading.inside"] {
        let _ = write!(out, "<li>{}</li>", label(key));
    }
    let _ = write!(
        out,
        r#"</ul><p>{}</p><h3>{}</h3><dl class="legend">"#,
        label("reading.pseudonyms"),
        label("reading.statuses")
    );
    for line in &report.summary {
        let _ = write!(
            out,
            r#"<div><dt><span class="status {}">{}{}</span></dt><dd>{} <span class="count">{}</span></dd></div>"#,
            line.slug,
            mark_image(line.status),
            escape(&line.name),
            escape(&line.means),
            escape(&line.count_text),
        );
    }
    let _ = write!(out, "</dl>{}</section>", fields(&report.about));
}

fn figures(out: &mut String, report: &Report) {
    let _ = write!(out, r#"<section id="charts"><h2>{}</h2>"#, escape(report.label("charts.heading")));
    for figure in report.figures.iter().skip(1) {
        figure_section(out, figure);
    }
    out.push_str("</section>\n");
}

fn figure_section(out: &mut String, figure: &Figure) {
    let (title, note) = (escape(&figure.title), escape(&figure.note));
    // The drawing is markup of our own chart module, which escapes what it is given.
    let drawing = figure.svg.as_deref().unwrap_or_default();
    let _ = write!(out, "<figure><h3>{title}</h3>{drawing}<figcaption>{note}</figcaption></figure>");
}

fn chapter_section(out: &mut String, report: &Report, chapter: &ChapterSection) {
    let _ = write!(out, r#"<section class="chapter"><h3>{}</h3>"#, escape(&chapter.title));
    if chapter.outside {
        let _ = write!(out, "<p>{}</p>", escape(report.label("outside.intro")));
    }
    for control in &chapter.controls {
        control_section(out, report, control);
    }
    out.push_str("</section>\n");
}

fn control_section(out: &mut String, report: &Report, control: &ControlSection) {
    let label = |key: &str| escape(report.label(key));
    let _ = write!(
        out,
        r#"<article class="control {slug}" id="{id}"><header><h4><span class="number">{number}</span> {title}</h4>{badge}</header>
<dl class="body"><div><dt>{requirement_label}</dt><dd>{requirement} <span class="reference">{references}</span></dd></div>"#,
        slug = control.slug,
        id = escape(&control.id),
        number = escape(&control.number),
        title = escape(&control.title),
        badge = badge(control),
        requirement_label = label("control.requirement"),
        requirement = escape(&control.requirement),
        references = escape(&control.references),
    );
    let open = if control.is_assessed() { "control.cannot_evidence" } else { "control.why_not" };
    if control.is_assessed() {
        let _ = write!(out, "<div><dt>{}</dt><dd>", label("control.assessment"));
        points(out, report, control);
        out.push_str("</dd></div>");
    }
    if !control.params.is_empty() {
        let _ = write!(out, r#"<div><dt>{}</dt><dd><ul class="params">"#, label("control.parameters"));
        for param in &control.params {
            let (name, value) = (escape(&param.name), escape(&param.value));
            let (source, basis) = (escape(&param.source), escape(&param.basis));
            let _ = write!(out, "<li><code>{name}</code> = {value} <em>({source})</em> {basis}</li>");
        }
        out.push_str("</ul></dd></div>");
    }
    let _ = write!(
        out,
        r#"<div class="open"><dt>{}</dt><dd>{}</dd></div></dl></article>"#,
        label(open),
        escape(&control.cannot_evidence)
    );
    out.push('\n');
}

fn points(out: &mut String, report: &Report, control: &ControlSection) {
    if control.points.is_empty() {
        let _ = write!(out, "<p>{}</p>", escape(report.label("no_data.reason")));
        return;
    }
    out.push_str(r#"<ul class="points">"#);
    for point in control.points.iter().take(control.points_shown) {
        let _ = write!(out, r#"<li class="{}">{}"#, point.weight, escape(&point.text));
        if !point.records.is_empty() {
            let (label, records) = (escape(report.label("control.records")), escape(&point.records_text));
            let _ = write!(out, r#" <span class="records">{label} {records}</span>"#);
        }
        out.push_str("</li>");
    }
    if let Some(more) = &control.points_more {
        let _ = write!(out, r#"<li class="informs">{}</li>"#, escape(more));
    }
    out.push_str("</ul>");
}

fn declaration(out: &mut String, report: &Report) {
    let label = |key: &str| escape(report.label(key));
    let _ = write!(
        out,
        r#"<section id="declaration"><h2>{}</h2><p>{}</p><dl class="sign">"#,
        label("declaration.heading"),
        label("declaration.text")
    );
    for key in [
        "declaration.conclusion",
        "declaration.name",
        "declaration.role",
        "declaration.date",
        "declaration.signature",
    ] {
        let _ = write!(out, "<div><dt>{}</dt><dd></dd></div>", label(key));
    }
    let _ = write!(out, "</dl><h3>{}</h3><p>{}</p></section>", label("verify.heading"), label("verify.text"));
}

fn data(out: &mut String, report: &Report) {
    let _ = write!(out, r#"<section id="data"><h2>{}</h2>"#, escape(report.label("chart.data")));
    for figure in &report.figures {
        let _ = write!(out, "<table><caption>{}</caption><thead><tr>", escape(&figure.title));
        for column in &figure.columns {
            let _ = write!(out, r#"<th scope="col">{}</th>"#, escape(column));
        }
        out.push_str("</tr></thead><tbody>");
        for row in &figure.rows {
            out.push_str("<tr>");
            for cell in row {
                let _ = write!(out, "<td>{}</td>", escape(cell));
            }
            out.push_str("</tr>");
        }
        out.push_str("</tbody></table>");
    }
    out.push_str("</section>\n");
}
