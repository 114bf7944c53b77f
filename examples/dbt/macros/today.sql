{#- The current date, at midnight. The variable `today` takes its place: in tests, and to build as of another day. -#}
{% macro today() -%}
    {%- if var('today', none) -%} cast('{{ var("today") }}' as date) {%- else -%} current_date {%- endif -%}
{%- endmacro %}
