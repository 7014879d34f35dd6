//! The sentences of a report, in every language.
//!
//! Rules say what they found with a [`Phrase`] and its arguments; only here does it become words.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::text::Lang;

const EN: &str = include_str!("../wording/en.yaml");
const DE: &str = include_str!("../wording/de.yaml");

/// Why a wording file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WordingError {
    /// Not YAML of the right shape.
    #[error("the wording file cannot be read: {0}")]
    Malformed(#[from] serde_norway::Error),
    /// A phrase without words.
    #[error("the wording file has no words for `{0}`")]
    Missing(&'static str),
    /// Words without a phrase.
    #[error("the wording file has words for `{0}`, which nothing says")]
    Unknown(String),
}

macro_rules! phrases {
    ($($variant:ident $key:literal,)*) => {
        /// Everything that a report can say.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the wording files say what each phrase says")]
        pub enum Phrase { $($variant,)* }

        impl Phrase {
            /// Every phrase.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name by which wording files know it.
            pub fn key(self) -> &'static str {
                match self { $(Self::$variant => $key,)* }
            }
        }
    };
}

phrases! {
    NothingRecorded "nothing_recorded",
    // Logging.
    GroupRecorded "group_recorded",
    GroupEmpty "group_empty",
    GroupAccess "group.connections",
    GroupTraffic "group.traffic",
    GroupIdentities "group.identities",
    GroupSignIns "group.sign_ins",
    GroupAdministration "group.administration",
    GroupConfiguration "group.configuration",
    GroupDevices "group.devices",
    GroupFirstKeys "group.first_keys",
    GroupKeyChanges "group.key_changes",
    LogRunning "log_running",
    LogPaused "log_paused",
    LogPausedLong "log_paused_long",
    LogForced "log_forced",
    LogStillClosed "log_still_closed",
    LogUnclearEnd "log_unclear_end",
    ProofsHold "proofs_hold",
    ProofsFail "proofs_fail",
    SignatureHolds "signature_holds",
    SignatureFails "signature_fails",
    SignatureUnchecked "signature_unchecked",
    ConsistencyHolds "consistency_holds",
    ConsistencyFails "consistency_fails",
    ConsistencyUnchecked "consistency_unchecked",
    WitnessesEnough "witnesses_enough",
    WitnessesFew "witnesses_few",
    EndpointsObject "endpoints_object",
    NumbersComplete "numbers_complete",
    NumbersMissing "numbers_missing",
    NotVerified "not_verified",
    ReviewsRegular "reviews_regular",
    ReviewsGap "reviews_gap",
    NamesShown "names_shown",
    RefusalsFound "refusals_found",
    RefusalsPile "refusals_pile",
    ActsNamed "acts_named",
    ActsBySystem "acts_by_system",
    ActsBootstrap "acts_bootstrap",
    ActsAnonymous "acts_anonymous",
    ReportRecent "report_recent",
    ReportOld "report_old",
    // Network.
    ChangeIndependent "change_independent",
    ChangeAlone "change_alone",
    ChangeUnproposed "change_unproposed",
    ChangeUntested "change_untested",
    ChangeTested "change_tested",
    DecisionsByRule "decisions_by_rule",
    DecisionsStale "decisions_stale",
    DenialsByDefault "denials_by_default",
    DenialsNone "denials_none",
    JoinsWithKey "joins_with_key",
    JoinsWithoutKey "joins_without_key",
    JoinsRefused "joins_refused",
    KeysForMany "keys_for_many",
    BoundedAll "bounded_all",
    BoundedLong "bounded_long",
    // Withdrawal.
    WithdrawnInTime "withdrawn_in_time",
    WithdrawnLate "withdrawn_late",
    WithdrawnTooLate "withdrawn_too_late",
    WithdrawnOpen "withdrawn_open",
    RenewedAfter "renewed_after",
    LeaverInTime "leaver_in_time",
    LeaverLate "leaver_late",
    LeaverTooLate "leaver_too_late",
    LeaverOpen "leaver_open",
    LeaverNotDisabled "leaver_not_disabled",
    LeaverNodeActive "leaver_node_active",
    // State.
    KeysYoung "keys_young",
    KeysOld "keys_old",
    KeysTooOld "keys_too_old",
    RegisterPersons "register_persons",
    RegisterServices "register_services",
    RegisterOrphans "register_orphans",
    RegisterEmptyHanded "register_empty_handed",
    InventoryTraced "inventory_traced",
    InventoryUnknown "inventory_unknown",
    RolesHeld "roles_held",
    RolesMany "roles_many",
    RolesSelfGranted "roles_self_granted",
    ActsWithoutRole "acts_without_role",
    ActsRefused "acts_refused",
    SignInOneFactor "sign_in_one_factor",
    SignInDeviceKey "sign_in_device_key",
    // Statuses.
    StatusContradicted "status.contradicted",
    StatusAttention "status.attention",
    StatusSupported "status.supported",
    StatusNoData "status.no_data",
    StatusNotAssessable "status.not_assessable",
    StatusContradictedMeans "status.contradicted.means",
    StatusAttentionMeans "status.attention.means",
    StatusSupportedMeans "status.supported.means",
    StatusNoDataMeans "status.no_data.means",
    StatusNotAssessableMeans "status.not_assessable.means",
    // Sources of parameters.
    SourceLaw "source.law",
    SourceGuidance "source.guidance",
    SourceHouse "source.house",
    // The page.
    Title "title",
    Kind "kind",
    Draft "draft",
    Network "network",
    PeriodLabel "period",
    PeriodSpan "period_span",
    LogRange "log_range",
    LogRangeSpan "log_range_span",
    LogRangeNone "log_range_none",
    CheckpointLabel "checkpoint",
    CheckpointSize "checkpoint_size",
    CheckpointNone "checkpoint_none",
    RootLabel "root",
    OriginLabel "origin",
    FrameworkLabel "framework",
    FrameworkVersion "framework_version",
    NewestRecord "newest_record",
    SourceLabel "source",
    ApplicabilityLabel "applicability",
    Contents "contents",
    SummaryHeading "summary.heading",
    SummaryIntro "summary.intro",
    SummaryCount "summary.count",
    ReadingHeading "reading.heading",
    ReadingLevels "reading.levels",
    ReadingCould "reading.could",
    ReadingAuthorised "reading.authorised",
    ReadingTalked "reading.talked",
    ReadingInside "reading.inside",
    ReadingStatuses "reading.statuses",
    ReadingPseudonyms "reading.pseudonyms",
    ChartsHeading "charts.heading",
    ChartStatuses "chart.statuses",
    ChartStatusesNote "chart.statuses.note",
    ChartDays "chart.days",
    ChartWeeks "chart.weeks",
    ChartDaysNote "chart.days.note",
    ChartDaysNone "chart.days.none",
    ChartWaits "chart.waits",
    ChartWaitsNote "chart.waits.note",
    ChartWaitsNone "chart.waits.none",
    ChartAuthorized "chart.authorized",
    ChartDenied "chart.denied",
    ChartLimit "chart.limit",
    ChartOpen "chart.open",
    ChartData "chart.data",
    ColumnDate "column.date",
    ColumnControl "column.control",
    ColumnTitle "column.title",
    ColumnStatus "column.status",
    ColumnControls "column.controls",
    ColumnWithdrawal "column.withdrawal",
    ColumnTook "column.took",
    ControlsHeading "controls.heading",
    Requirement "control.requirement",
    Reference "control.reference",
    Assessment "control.assessment",
    Evidence "control.evidence",
    Records "control.records",
    RecordsMore "control.records_more",
    PointsMore "control.points_more",
    Parameters "control.parameters",
    CannotEvidence "control.cannot_evidence",
    WhyNot "control.why_not",
    OutsideIntro "outside.intro",
    NoDataReason "no_data.reason",
    DeclarationHeading "declaration.heading",
    DeclarationText "declaration.text",
    DeclarationName "declaration.name",
    DeclarationRole "declaration.role",
    DeclarationDate "declaration.date",
    DeclarationSignature "declaration.signature",
    DeclarationConclusion "declaration.conclusion",
    VerifyHeading "verify.heading",
    VerifyText "verify.text",
    PageOf "page_of",
    Yes "yes",
    No "no",
}

/// An argument of a phrase.
#[derive(Debug, Clone, PartialEq)]
pub enum Arg {
    /// How many.
    Count(u64),
    /// How long, in seconds.
    Span(f64),
    /// When.
    Time(Timestamp),
    /// A name or an id, as it is.
    Word(String),
    /// Another phrase.
    Phrase(Phrase),
}

/// A phrase with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Sentence {
    phrase: Phrase,
    args: Vec<(&'static str, Arg)>,
}

impl Sentence {
    /// The phrase without arguments yet.
    pub fn of(phrase: Phrase) -> Self {
        Self { phrase, args: Vec::new() }
    }

    /// The phrase about `n` things.
    pub fn count(phrase: Phrase, n: usize) -> Self {
        Self::of(phrase).with("n", Arg::Count(n as u64))
    }

    /// Adds an argument.
    pub fn with(mut self, name: &'static str, arg: Arg) -> Self {
        self.args.push((name, arg));
        self
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Template {
    Always(String),
    #[serde(rename_all = "lowercase")]
    ByNumber {
        one: String,
        other: String,
    },
}

/// The words of one language.
#[derive(Debug, Clone)]
pub struct Wording {
    lang: Lang,
    templates: BTreeMap<Phrase, Template>,
}

impl Wording {
    /// The built-in words of a language.
    pub fn load(lang: Lang) -> Result<Self, WordingError> {
        Self::parse(
            lang,
            match lang {
                Lang::En => EN,
                Lang::De => DE,
            },
        )
    }

    fn parse(lang: Lang, yaml: &str) -> Result<Self, WordingError> {
        let mut given: BTreeMap<String, Template> = serde_norway::from_str(yaml)?;
        let mut templates = BTreeMap::new();
        for phrase in Phrase::ALL {
            let template = given.remove(phrase.key()).ok_or(WordingError::Missing(phrase.key()))?;
            templates.insert(*phrase, template);
        }
        match given.into_keys().next() {
            Some(unknown) => Err(WordingError::Unknown(unknown)),
            None => Ok(Self { lang, templates }),
        }
    }

    /// The language.
    pub fn lang(&self) -> Lang {
        self.lang
    }

    /// A phrase that takes no arguments.
    pub fn phrase(&self, phrase: Phrase) -> String {
        self.sentence(&Sentence::of(phrase))
    }

    /// A phrase with its arguments.
    pub fn sentence(&self, sentence: &Sentence) -> String {
        let n = sentence.args.iter().find_map(|(name, arg)| match arg {
            Arg::Count(n) if *name == "n" => Some(*n),
            _ => None,
        });
        let text = match self.templates.get(&sentence.phrase) {
            Some(Template::Always(text)) => text,
            Some(Template::ByNumber { one, other }) => {
                if n == Some(1) {
                    one
                } else {
                    other
                }
            }
            None => sentence.phrase.key(),
        };
        let mut out = text.trim().to_owned();
        for (name, arg) in &sentence.args {
            out = out.replace(&format!("{{{name}}}"), &self.arg(arg));
        }
        out
    }

    fn arg(&self, arg: &Arg) -> String {
        match arg {
            Arg::Count(n) => group_digits(*n),
            Arg::Span(seconds) => self.span(*seconds),
            Arg::Time(time) => self.time(*time),
            Arg::Word(word) => word.clone(),
            Arg::Phrase(phrase) => self.phrase(*phrase),
        }
    }

    /// A moment in UTC, to the second.
    pub fn time(&self, time: Timestamp) -> String {
        format!("{} UTC", time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S"))
    }

    /// A duration, in the two units that matter.
    pub fn span(&self, seconds: f64) -> String {
        let seconds = seconds.max(0.0);
        if seconds < 1.0 {
            return format!("{} ms", (seconds * 1000.0).round());
        }
        if seconds < 60.0 {
            let text = format!("{seconds:.1} s");
            return if self.lang == Lang::De { text.replace('.', ",") } else { text };
        }
        let whole = seconds.round() as u64;
        let (days, hours, minutes, rest) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
        let day = match self.lang {
            Lang::En => "d",
            Lang::De => "Tg.",
        };
        let (major, minor) = match (days, hours) {
            (0, 0) => (format!("{minutes} min"), (rest, "s")),
            (0, _) => (format!("{hours} h"), (minutes, "min")),
            _ => (format!("{days} {day}"), (hours, "h")),
        };
        match minor {
            (0, _) => major,
            (count, unit) => format!("{major} {count} {unit}"),
        }
    }
}

/// Groups digits by thin spaces, which reads the same in every language.
pub fn group_digits(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placeholders(text: &str) -> Vec<String> {
        let mut found: Vec<String> = text
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split_once('}').map(|(name, _)| name.to_owned()))
            .collect();
        found.sort();
        found.dedup();
        found
    }

    fn forms(template: &Template) -> Vec<&str> {
        match template {
            Template::Always(text) => vec![text],
            Template::ByNumber { one, other } => vec![one, other],
        }
    }

    #[test]
    fn every_language_has_every_phrase_with_the_same_arguments() {
        let (en, de) = (Wording::load(Lang::En).unwrap(), Wording::load(Lang::De).unwrap());
        for phrase in Phrase::ALL {
            let of = |wording: &Wording| {
                forms(&wording.templates[phrase])
                    .iter()
                    .flat_map(|text| placeholders(text))
                    .collect::<Vec<_>>()
            };
            let (mut en, mut de) = (of(&en), of(&de));
            en.dedup();
            de.dedup();
            en.sort();
            de.sort();
            en.dedup();
            de.dedup();
            assert_eq!(en, de, "{}", phrase.key());
        }
    }

    #[test]
    fn wordings_without_or_beyond_a_phrase_are_refused() {
        assert!(matches!(Wording::parse(Lang::En, "{}"), Err(WordingError::Missing(_))));
        let beyond = format!("{EN}\nnobody_says_this: x\n");
        assert!(matches!(Wording::parse(Lang::En, &beyond), Err(WordingError::Unknown(_))));
    }

    #[test]
    fn numbers_and_spans_read_well() {
        let (en, de) = (Wording::load(Lang::En).unwrap(), Wording::load(Lang::De).unwrap());
        assert_eq!(group_digits(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(
            [0.25, 2.5, 60.0, 3700.0, 90_000.0].map(|s| en.span(s)),
            ["250 ms", "2.5 s", "1 min", "1 h 1 min", "1 d 1 h"]
        );
        assert_eq!(de.span(2.5), "2,5 s");
    }
}
