//! Which requests are let through, and what the others are told.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use cowblk_nbd::codec::{Command, NbdError, Request, Style, command};
use cowblk_nbd::requests::Rules;

const RULES: Rules =
    Rules { size_bytes: 1 << 30, is_read_only: false, style: Style::Structured, has_contexts: true };

fn request(command: Command, flags: u16, offset: u64, len: u64) -> Request {
    Request { flags, command, cookie: 1, offset, len }
}

fn refusal(rules: &Rules, request: &Request) -> Option<NbdError> {
    rules.check(request).err().map(|(error, _)| error)
}

#[test]
fn ranges_end_where_the_export_does() {
    for command in [
        Command::Read,
        Command::Write,
        Command::Trim,
        Command::WriteZeroes,
        Command::Cache,
        Command::BlockStatus,
    ] {
        let check = |offset, len| refusal(&RULES, &request(command, 0, offset, len));
        assert_eq!(check(0, 1), None, "{command:?}");
        assert_eq!(check((1 << 30) - 1, 1), None, "{command:?}");
        assert_eq!(check(1 << 30, 1), Some(NbdError::Invalid), "{command:?}");
        assert_eq!(check((1 << 30) - 1, 2), Some(NbdError::Invalid), "{command:?}");
        assert_eq!(check(u64::MAX, 2), Some(NbdError::Invalid), "{command:?}");
        let is_status = command == Command::BlockStatus;
        assert_eq!(check(5, 0), is_status.then_some(NbdError::Invalid), "{command:?}");
    }
}

#[test]
fn payloads_have_at_most_32_mib_and_ranges_any_length() {
    for command in [Command::Read, Command::Write, Command::Cache] {
        assert_eq!(refusal(&RULES, &request(command, 0, 0, 32 << 20)), None);
        assert_eq!(refusal(&RULES, &request(command, 0, 0, (32 << 20) + 1)), Some(NbdError::Invalid));
    }
    for command in [Command::Trim, Command::WriteZeroes] {
        assert_eq!(refusal(&RULES, &request(command, 0, 0, 1 << 30)), None);
    }
}

#[test]
fn a_read_only_export_refuses_every_change_as_that() {
    let rules = Rules { is_read_only: true, ..RULES };
    for command in [Command::Write, Command::Trim, Command::WriteZeroes] {
        assert_eq!(refusal(&rules, &request(command, 0, 0, 1)), Some(NbdError::Permission));
        assert_eq!(refusal(&rules, &request(command, 0, 1 << 40, 1)), Some(NbdError::Permission));
    }
    for command in [Command::Read, Command::Cache, Command::BlockStatus] {
        assert_eq!(refusal(&rules, &request(command, 0, 0, 1)), None);
    }
    assert_eq!(refusal(&rules, &request(Command::Flush, 0, 0, 0)), None);
}

#[test]
fn flags_belong_to_commands() {
    let allowed = |rules: &Rules, command: Command| {
        let len = u64::from(command != Command::Flush);
        (0..16)
            .map(|bit| 1 << bit)
            .filter(|flag| refusal(rules, &request(command, *flag, 0, len)).is_none())
            .sum::<u16>()
    };
    assert_eq!(allowed(&RULES, Command::Read), command::FUA | command::DF);
    assert_eq!(allowed(&RULES, Command::Write), command::FUA);
    assert_eq!(allowed(&RULES, Command::WriteZeroes), command::FUA | command::NO_HOLE | command::FAST_ZERO);
    assert_eq!(allowed(&RULES, Command::BlockStatus), command::FUA | command::REQ_ONE);
    assert_eq!(allowed(&RULES, Command::Flush), command::FUA);
    let simple = Rules { style: Style::Simple, ..RULES };
    assert_eq!(allowed(&simple, Command::Read), command::FUA);
    let extended = Rules { style: Style::Extended, ..RULES };
    assert_eq!(allowed(&extended, Command::Write), command::FUA | command::PAYLOAD_LEN);
    assert_eq!(allowed(&extended, Command::Trim), command::FUA);
}

#[test]
fn what_is_no_command_is_refused() {
    for number in 8..100 {
        assert_eq!(refusal(&RULES, &request(Command::from(number), 0, 0, 0)), Some(NbdError::Invalid));
    }
    assert_eq!(refusal(&RULES, &request(Command::Flush, 0, 0, 1)), Some(NbdError::Invalid));
    let rules = Rules { has_contexts: false, ..RULES };
    assert_eq!(refusal(&rules, &request(Command::BlockStatus, 0, 0, 1)), Some(NbdError::Invalid));
}
