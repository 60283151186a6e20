// SPDX-License-Identifier: GPL-2.0
/*
 * How things are called and printed.  States and reasons have their names from
 * kmod/uapi.h and from nowhere else, so that kernel, maps and chimneyctl agree.
 * What is printed is a JSON object first; people see the same as lines or as a
 * table.
 */
#include <ctype.h>
#include <string.h>

#include "chimneyctl.h"

#define COLOR_GREEN "\033[32m"
#define COLOR_YELLOW "\033[33m"
#define COLOR_END "\033[0m"

static const char * const states[] = {
/* clang-format off */
#define STATE_NAME(id, name)		\
	[CHIMNEY_##id] = name,
	CHIMNEY_STATES(STATE_NAME)
	/* clang-format on */
	NULL,
};

static const struct {
	const char *name;
	const char *words;
} reasons[] = {
/* clang-format off */
#define REASON_NAME(id, name, words)	\
	[CHIMNEY_##id] = { name, words },
	CHIMNEY_REASONS(REASON_NAME)
	/* clang-format on */
	{},
};

/**
 * state_name() - what a state is called
 * @state: enum chimney_state, maybe of a newer module
 */
const char *state_name(unsigned int state)
{
	return state < ARRAY_SIZE(states) - 1 ? states[state] : "unknown";
}

/**
 * find_state() - the reverse
 * @word: what a state is called, or NULL
 *
 * Return: enum chimney_state, or -1 after a complaint.
 */
int find_state(const char *word)
{
	return find_word("state", word, false, states);
}

/**
 * reason_name() - what a reason is called
 * @reason: enum chimney_reason, maybe of a newer module
 */
const char *reason_name(unsigned int reason)
{
	return reason < CHIMNEY_REASON_MAX ? reasons[reason].name : "unknown";
}

/**
 * find_reason() - the reverse
 * @word: what a reason is called, or NULL
 *
 * Return: enum chimney_reason, or -1 after a complaint.
 */
int find_reason(const char *word)
{
	return find_word("reason", word, false, reasons);
}

/**
 * reason_words() - what a reason means
 * @reason: enum chimney_reason, maybe of a newer module
 */
const char *reason_words(unsigned int reason)
{
	return reason < CHIMNEY_REASON_MAX ?
		       reasons[reason].words :
		       "this chimneyctl is too old to know";
}

/**
 * add_text() - give an object a text, or null
 * @obj: the object
 * @key: under this key
 * @text: the text; NULL is null
 */
void add_text(struct json_object *obj, const char *key, const char *text)
{
	json_object_object_add(obj, key,
			       text ? json_object_new_string(text) : NULL);
}

/**
 * add_number() - give an object a number
 * @obj: the object
 * @key: under this key
 * @number: the number
 */
void add_number(struct json_object *obj, const char *key, __u64 number)
{
	json_object_object_add(obj, key, json_object_new_uint64(number));
}

/**
 * number_of() - a number of an object
 * @obj: the object
 * @key: its key
 */
__u64 number_of(struct json_object *obj, const char *key)
{
	return json_object_get_uint64(json_object_object_get(obj, key));
}

/**
 * text_of() - a value of an object as people read it
 * @obj: the object
 * @key: its key
 * @buf: 256 bytes for a list
 *
 * Return: the text; a list's values with commas between; "-" for nothing.
 */
const char *text_of(struct json_object *obj, const char *key, char *buf)
{
	struct json_object *value = json_object_object_get(obj, key), *item;
	size_t i, len = 0;

	if (!json_object_is_type(value, json_type_array))
		return value ? json_object_get_string(value) : "-";
	for (i = 0; i < json_object_array_length(value) && len < 256; i++) {
		item = json_object_array_get_idx(value, i);
		len += snprintf(buf + len, 256 - len, "%s%s", i ? "," : "",
				json_object_get_string(item));
	}
	return len ? buf : "-";
}

/**
 * print_json() - print an object
 * @obj: the object
 */
void print_json(struct json_object *obj)
{
	int how = JSON_C_TO_STRING_NOSLASHESCAPE;

	if (opt.pretty)
		how |= JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED;
	puts(json_object_to_json_string_ext(obj, how));
}

/**
 * print_lines() - print an object for people, a line for each text and number
 * @obj: the object; arrays in it are left out
 */
void print_lines(struct json_object *obj)
{
	json_object_object_foreach(obj, key, value)
		if (!json_object_is_type(value, json_type_array))
			printf("%s %s\n", key,
			       value ? json_object_get_string(value) : "none");
}

/**
 * print_object() - print an object as JSON or for people, as was asked for
 * @obj: the object
 */
void print_object(struct json_object *obj)
{
	if (opt.json)
		print_json(obj);
	else
		print_lines(obj);
}

/* Of a cell, "" for none: what is as it should be, and what is not. */
static const char *color_of(const char *column, const char *text)
{
	if (!opt.color || !strcmp(text, "-"))
		return "";
	if (!strcmp(column, "state") && strcmp(text, state_name(CHIMNEY_IN_HOST)))
		return strcmp(text, state_name(CHIMNEY_OFFLOADED)) ?
			       COLOR_YELLOW :
			       COLOR_GREEN;
	return strcmp(column, "reasons") ? "" : COLOR_YELLOW;
}

static void print_cell(FILE *to, const char *text, const char *color, bool last,
		       int width)
{
	/* nothing but spaces would follow */
	if (last && width < 0)
		width = 0;
	fprintf(to, "%s%*s%s%c", color, width, text, *color ? COLOR_END : "",
		last ? '\n' : ' ');
}

/**
 * print_table() - print objects for people, a line each
 * @to: there
 * @array: the objects
 * @columns: keys of what is printed, and NULL; they make the heading, too
 */
void print_table(FILE *to, struct json_object *array, const char * const *columns)
{
	size_t rows = json_object_array_length(array), row, c;
	struct json_object *obj, *value;
	const char *text;
	char buf[256];
	int width[16];
	bool number;

	for (c = 0; columns[c]; c++) {
		width[c] = strlen(columns[c]);
		for (row = 0; row < rows; row++) {
			obj = json_object_array_get_idx(array, row);
			text = text_of(obj, columns[c], buf);
			if ((int)strlen(text) > width[c])
				width[c] = strlen(text);
		}
	}
	for (c = 0; columns[c] && !opt.quiet; c++) {
		for (row = 0; row <= strlen(columns[c]); row++)
			buf[row] = columns[c][row] == '_' ?
					   '-' :
					   toupper(columns[c][row]);
		print_cell(to, buf, "", !columns[c + 1], -width[c]);
	}
	for (row = 0; row < rows; row++) {
		obj = json_object_array_get_idx(array, row);
		for (c = 0; columns[c]; c++) {
			text = text_of(obj, columns[c], buf);
			value = json_object_object_get(obj, columns[c]);
			number = json_object_is_type(value, json_type_int);
			print_cell(to, text, color_of(columns[c], text),
				   !columns[c + 1],
				   number ? width[c] : -width[c]);
		}
	}
}
