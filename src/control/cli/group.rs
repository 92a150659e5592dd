//! `group`: groups, their members and limits.

use clap::Subcommand;

use super::args::Remote;
use super::client::{Client, Failure};
use super::printer::Printer;
use super::table::{Align, Table, of};
use crate::control::answers::{GroupRow, MemberRow};

use Align::{Left, Right, Whole};

/// Commands about groups.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List all groups with their policy, members and use
    #[command(after_help = "\
Example:
  callgate group list --json | jq -r '.[] | select(all(.members[]; .state == \"down\")) | .name'")]
    List(Remote),
}

impl GroupCommand {
    /// How the node is found.
    pub fn remote(&self) -> &Remote {
        let GroupCommand::List(remote) = self;
        remote
    }

    /// Runs the command.
    pub fn run(&self, client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
        let GroupCommand::List(_) = self;
        printer.list(client, "group.list", groups)
    }
}

/// One line per member; what is of the group stands on its first.
fn groups(rows: &[GroupRow]) -> String {
    let mut table = Table::new(&[
        ("GROUP", Whole),
        ("POLICY", Left),
        ("CALLS", Right),
        ("IN", Right),
        ("OUT", Right),
        ("MEMBER", Whole),
        ("WEIGHT", Right),
        ("STATE", Left),
        ("CALLS OUT", Right),
    ]);
    for row in rows {
        let limits = &row.limits;
        let mut group = vec![
            row.name.clone(),
            row.policy.clone(),
            of(limits.calls, limits.calls_max),
            of(limits.calls_in, limits.calls_in_max),
            of(limits.calls_out, limits.calls_out_max),
        ];
        for member in &row.members {
            let mut cells = std::mem::replace(&mut group, vec![String::new(); 5]);
            cells.extend(member_cells(member));
            table.row(cells);
        }
    }
    table.take_text()
}

fn member_cells(member: &MemberRow) -> [String; 4] {
    [
        member.trunk.clone(),
        member.weight.to_string(),
        member.state.clone(),
        member.calls_out.to_string(),
    ]
}
