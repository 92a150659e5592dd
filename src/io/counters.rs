//! What a driver counts: one declaration per counter, plain numbers, one writer.

use crate::metrics::tally;

tally! {
    /// Numbers of one driver since it was opened.
    DriverCounters {
        received = "Datagrams given to the shard.";
        sent = "Datagrams that the kernel took.";
        groups = "Groups of datagrams that the kernel took as one (UDP_SEGMENT).";
        grouped = "Datagrams that left in such groups.";
        groups_refused = "Groups that the kernel refused; their datagrams went singly.";
        turns = "Batches of events.";
        system_calls = "System calls made to wait, receive and send.";
        ticks = "Times datagrams were left to gather.";
        wakes = "Waits ended by another thread.";
        truncated = "Datagrams longer than any buffer, dropped.";
        foreign = "Datagrams whose source address is of no known family, dropped.";
        dropped_by_kernel = "Datagrams that found the socket's receive queue full.";
        turned_away = "New INVITEs that the kernel dropped because the shard was overloaded, and what found its queue full meanwhile.";
        buffers_empty = "Times the ring had no free buffer; datagrams waited in the socket.";
        rearmed = "Times a multishot operation had ended and was started again.";
        completions_overflowed = "Times the completion queue was too short.";
        bounced = "Datagrams reported as undeliverable.";
        receive_errors = "Errors on receiving that were overcome.";
        send_retries = "Datagrams sent again because the first try failed.";
        send_full = "Datagrams not sent: the socket or the device stayed full.";
        send_unreachable = "Datagrams not sent: no route, or refused by an earlier ICMP message.";
        send_short = "Datagrams of which the kernel took only a part.";
        send_faults = "Datagrams not sent for any other reason.";
        send_no_listener = "Datagrams for a listener that this driver does not have.";
    }
}
